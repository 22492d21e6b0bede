//! For each finding the line of configuration that usually cures it. `docs/doctor.md` shows the same table; a test compares.

use super::findings::Id;
use super::front::Front;

/// What to write, by the program that is to be told. A finding that only concerns some has fewer.
#[allow(clippy::too_many_lines, reason = "a table")]
pub(super) const fn of(id: Id) -> &'static [(Front, &'static str)] {
    use Front::{Alb, Caddy, Envoy, HaProxy, Nginx, Tidegate, Traefik};
    match id {
        Id::StreamBuffered | Id::StreamBufferedWithoutHeaders | Id::StreamLate => &[
            (Nginx, "proxy_buffering off;  # and no proxy_ignore_headers X-Accel-Buffering"),
            (HaProxy, "no option http-buffer-request  # and no http-response wait-for-body"),
            (Caddy, "reverse_proxy ... { flush_interval -1 }"),
            (Traefik, "loadBalancer.responseForwarding.flushInterval: -1ms  # and no buffering middleware"),
            (Envoy, "take filters that read whole bodies off the route (ext_proc BUFFERED, lua body(), transcoders)"),
            (Alb, "it does not buffer, but Lambda targets do: make it a target of type ip or instance"),
        ],
        Id::StreamCompressed | Id::StreamCompressedWithoutHeaders => &[
            (Nginx, "gzip off;  # or text/event-stream out of gzip_types; brotli likewise"),
            (HaProxy, "compression type text/html text/css application/json  # without text/event-stream"),
            (Caddy, "encode gzip { match { header Content-Type text/html* } }"),
            (Traefik, "compress.excludedContentTypes: [text/event-stream]"),
            (Envoy, "compressor: response_direction_config.common_config.content_type without text/event-stream"),
            (Alb, "it does not compress; in a CDN, turn compression off for this path"),
        ],
        Id::SilenceCut => &[
            (Nginx, "proxy_read_timeout 1h;"),
            (HaProxy, "timeout server 1h  # and timeout client 1h"),
            (Caddy, "servers { timeouts { write 0 } }  # and no read_timeout in transport http"),
            (Traefik, "entryPoints.NAME.transport.respondingTimeouts.writeTimeout: 0s"),
            (Envoy, "stream_idle_timeout: 0s  # and timeout: 0s on the route"),
            (Alb, "idle_timeout.timeout_seconds = 3600"),
        ],
        Id::WebsocketSilenceCut => &[
            (Nginx, "proxy_read_timeout 1h;  # and proxy_send_timeout 1h;"),
            (HaProxy, "timeout tunnel 1h"),
            (Caddy, "reverse_proxy ... { stream_timeout 0 }"),
            (Traefik, "entryPoints.NAME.transport.respondingTimeouts.idleTimeout: 3600s"),
            (Envoy, "stream_idle_timeout: 0s  # and upgrade_configs of the route without idle_timeout"),
            (Alb, "idle_timeout.timeout_seconds = 3600"),
        ],
        Id::WebsocketFails => &[
            (
                Nginx,
                "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";",
            ),
            (HaProxy, "mode http  # without option httpclose and without http-request del-header upgrade"),
            (Caddy, "reverse_proxy passes it on: take header_up -Upgrade and -Connection out"),
            (Traefik, "passes it on: take middlewares off the router that set Connection or Upgrade"),
            (Envoy, "upgrade_configs: [{ upgrade_type: websocket }]"),
            (Alb, "protocol_version = HTTP1  # of the target group"),
        ],
        Id::WebsocketOverHttp2Missing => &[
            (Nginx, "has no RFC 8441: browsers use HTTP/1.1 for WebSockets, one connection each"),
            (HaProxy, "no option h2-workaround-bogus-websocket-clients"),
            (Caddy, "has it from 2.10 on, with GODEBUG=http2xconnect=1 in its environment"),
            (Traefik, "has no RFC 8441: browsers use HTTP/1.1 for WebSockets, one connection each"),
            (Envoy, "http2_protocol_options: { allow_connect: true }  # and upgrade_configs for websocket"),
            (Alb, "has no RFC 8441: browsers use HTTP/1.1 for WebSockets, one connection each"),
        ],
        Id::Http2Missing => &[
            (Nginx, "http2 on;  # before nginx 1.25.1: listen 443 ssl http2;"),
            (HaProxy, "bind :443 ssl crt ... alpn h2,http/1.1"),
            (Caddy, "servers { protocols h1 h2 h3 }"),
            (Traefik, "tls.options.default.alpnProtocols: [h2, http/1.1]"),
            (Envoy, "alpn_protocols: [h2, http/1.1]  # and codec_type: AUTO"),
            (Alb, "routing.http2.enabled = true"),
        ],
        Id::UploadBuffered => &[
            (Nginx, "proxy_request_buffering off;  # with proxy_http_version 1.1;"),
            (HaProxy, "no option http-buffer-request"),
            (Caddy, "take request_buffers out of reverse_proxy"),
            (Traefik, "take the buffering middleware off the router"),
            (Envoy, "take envoy.filters.http.buffer off the route"),
            (Alb, "it does not buffer, but Lambda targets do: make it a target of type ip or instance"),
        ],
        Id::OldHttpToGateway => &[(Nginx, "proxy_http_version 1.1;")],
        Id::ClientAddressHidden => &[
            (Nginx, "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"),
            (
                HaProxy,
                "option forwardfor  # in mode tcp: send-proxy-v2, and proxy_protocol = \"required\" in [[listener]]",
            ),
            (Caddy, "reverse_proxy sends it: take header_up -X-Forwarded-For out"),
            (Traefik, "sends it: take middlewares off the router that remove X-Forwarded-For"),
            (Envoy, "use_remote_address: true"),
            (Alb, "routing.http.xff_header_processing.mode = append"),
        ],
        Id::SchemeHidden => &[
            (Nginx, "proxy_set_header X-Forwarded-Proto $scheme;"),
            (HaProxy, "http-request set-header X-Forwarded-Proto https if { ssl_fc }"),
            (Caddy, "reverse_proxy sends it: take header_up -X-Forwarded-Proto out"),
            (Traefik, "sends it: take middlewares off the router that remove X-Forwarded-Proto"),
            (Envoy, "use_remote_address: true"),
            (Alb, "sends it: look at what else is on the way"),
        ],
        Id::HostChanged => &[
            (Nginx, "proxy_set_header Host $http_host;"),
            (HaProxy, "take http-request set-header Host out"),
            (Caddy, "take header_up Host out of reverse_proxy"),
            (Traefik, "loadBalancer.passHostHeader: true"),
            (Envoy, "take host_rewrite_literal and auto_host_rewrite out of the route"),
            (Alb, "routing.http.preserve_host_header.enabled = true"),
        ],
        Id::FrontUntrusted => &[(
            Tidegate,
            "trusted_proxies = [\"192.0.2.7\"]  # in [server]: the addresses that the front connects from",
        )],
        Id::FrontUnread => &[(
            Tidegate,
            "forwarded = \"forwarded\"  # in [server], or \"x-forwarded\": the one of them that the front sets",
        )],
        Id::LastEventIdStripped | Id::RequestFieldsStripped | Id::CookiesStripped => &[
            (Nginx, "proxy_pass_request_headers on;  # and no proxy_set_header that empties the field"),
            (HaProxy, "take http-request del-header for this field out"),
            (Caddy, "take header_up for this field out of reverse_proxy"),
            (Traefik, "take headers.customRequestHeaders for this field out"),
            (Envoy, "take request_headers_to_remove for this field out"),
            (
                Alb,
                "routing.http.drop_invalid_header_fields.enabled = false  # in CloudFront: origin request policy AllViewer",
            ),
        ],
        Id::CacheControlChanged | Id::AnswerFieldsStripped => &[
            (Nginx, "take proxy_hide_header, expires and add_header Cache-Control out"),
            (HaProxy, "take http-response del-header and set-header for this field out"),
            (Caddy, "take header_down for this field out of reverse_proxy"),
            (Traefik, "take headers.customResponseHeaders for this field out"),
            (Envoy, "take response_headers_to_remove for this field out"),
            (Alb, "it changes none; in a CDN, turn edge rules for this path off"),
        ],
        Id::AnswerCached => &[
            (Nginx, "proxy_cache off;"),
            (HaProxy, "take http-request cache-use out"),
            (Caddy, "take the cache handler off this path"),
            (Envoy, "take envoy.filters.http.cache off the route"),
            (Alb, "it keeps nothing; in CloudFront: cache policy CachingDisabled"),
        ],
        Id::QueryStripped => &[
            (Nginx, "rewrite without a question mark at its end, proxy_pass without a path of its own"),
            (HaProxy, "http-request set-path in place of set-uri"),
            (Caddy, "rewrite with ?{query}"),
            (Alb, "in CloudFront: origin request policy AllViewer"),
        ],
        Id::TlsOld => &[
            (Nginx, "ssl_protocols TLSv1.2 TLSv1.3;"),
            (HaProxy, "ssl-default-bind-options ssl-min-ver TLSv1.2"),
            (Traefik, "tls.options.default.minVersion: VersionTLS12  # and no maxVersion"),
            (Envoy, "tls_params: { tls_maximum_protocol_version: TLSv1_3 }"),
            (Alb, "ssl_policy = ELBSecurityPolicy-TLS13-1-2-2021-06"),
        ],
        Id::StreamFails | Id::UploadFails | Id::CertificateEnds | Id::NoTls => &[],
    }
}
