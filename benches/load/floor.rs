//! The floor: TLS taken off and the bytes copied, by the same TLS library and runtime, and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The other process; its working directory holds the certificate.
pub(crate) async fn run(listen: SocketAddr, forward: SocketAddr) {
    let certificate = CertificateDer::from_pem_file("dev.pem").unwrap();
    let key = PrivateKeyDer::from_pem_file("dev.key").unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(listen).await.unwrap();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            client.set_nodelay(true).unwrap();
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let mut upstream = TcpStream::connect(forward).await.unwrap();
            upstream.set_nodelay(true).unwrap();
            let _ = copy_bidirectional(&mut client, &mut upstream).await;
        });
    }
}
