//! nginx, set up as the nearest thing to what tidegate does: TLS towards clients, one worker, nothing buffered.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::upstream::Upstream;

const BINARY: &str = "/usr/sbin/nginx";

pub(crate) fn is_installed() -> bool {
    Path::new(BINARY).exists()
}

/// The command that starts it with a configuration written to `dir`.
pub(crate) fn command(dir: &Path, listen: SocketAddr, upstream: &Upstream) -> Command {
    let file = dir.join("nginx.conf");
    let (dir, http, websocket) = (dir.display(), upstream.http, upstream.websocket);
    std::fs::write(
        &file,
        format!(
            r#"
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {dir}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 15000; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_requests 1000000000;
    upstream http {{ server {http}; keepalive 64; keepalive_requests 1000000000; }}
    upstream websocket {{ server {websocket}; }}
    server {{
        listen {listen} ssl backlog=4096;
        ssl_certificate {dir}/dev.pem;
        ssl_certificate_key {dir}/dev.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        proxy_http_version 1.1;
        proxy_buffering off;
        proxy_read_timeout 1h;
        location /chat {{
            proxy_pass http://websocket;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
        }}
        location / {{
            proxy_pass http://http;
            proxy_set_header Connection "";
        }}
    }}
}}
"#
        ),
    )
    .unwrap();
    let mut command = Command::new(BINARY);
    command.arg("-c").arg(file).arg("-p").arg(dir.to_string());
    command
}
