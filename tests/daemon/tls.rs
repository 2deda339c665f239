//! The API over TLS, and a certificate that is renewed while it serves.

use std::time::Duration;

use hyper::Method;
use magnumd::base::http::client::{HttpClient, HttpError, Outgoing};
use magnumd::base::http::tls;
use rustix::process::Signal;

use crate::process::Site;

/// A certificate for this machine, written where the configuration says; its PEM.
fn write_certificate(site: &Site) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(site.folder().join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(site.folder().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.pem()
}

/// What a client that trusts nothing but `pem` gets.
async fn ask(site: &Site, pem: &str) -> Result<u16, HttpError> {
    let config = tls::pinned_client_config(pem).unwrap();
    let http = HttpClient::new(config, Duration::from_secs(5));
    let url = format!("https://127.0.0.1:{}/", site.port);
    Ok(http.send(Outgoing::new(Method::GET, url)).await?.status.as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_presented_after_a_reload_and_a_broken_one_never() {
    let mut site = Site::new().await;
    let first = write_certificate(&site);
    let plain = std::fs::read_to_string(site.config()).unwrap();
    site.configure("[api.tls]", "cert = 'tls.crt'\nkey = 'tls.key'");
    let magnumd = site.start(site.command()).await;
    assert_eq!(ask(&site, &first).await.unwrap(), 200);

    let second = write_certificate(&site);
    assert_eq!(ask(&site, &first).await.unwrap(), 200, "not before it is told");
    magnumd.signal(Signal::HUP);
    magnumd.says("the configuration has been read again").await;
    assert_eq!(ask(&site, &second).await.unwrap(), 200);
    assert!(ask(&site, &first).await.is_err());

    // A new certificate whose key has not been copied yet.
    let key = std::fs::read(site.folder().join("tls.key")).unwrap();
    write_certificate(&site);
    std::fs::write(site.folder().join("tls.key"), key).unwrap();
    magnumd.signal(Signal::HUP);
    magnumd.says("the configuration is not usable; the one before stays").await;
    assert!(magnumd.log().contains("tls.crt"), "{}", magnumd.log());
    assert_eq!(ask(&site, &second).await.unwrap(), 200);

    // Turning TLS off needs a restart, and is named.
    site.write(&plain);
    magnumd.signal(Signal::HUP);
    magnumd.says("needs a restart").await;
    assert_eq!(ask(&site, &second).await.unwrap(), 200);

    let plain = Outgoing::new(Method::GET, format!("http://127.0.0.1:{}/", site.port));
    let answer = site.http.send(plain).await.unwrap();
    assert_eq!(answer.status.as_u16(), 400);
    assert!(answer.body.starts_with(b"This port speaks TLS"));
}
