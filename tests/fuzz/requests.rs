//! Certificate requests, as tenants send them.

use base64::Engine;
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair};
use serde_json::json;
use x509_parser::prelude::FromDer;

use crate::dice::Dice;
use crate::mutate;
use crate::run::{Run, target};
use crate::site::Site;
use crate::wire::Sent;

/// Certificate requests: damaged ones, and odd ones that are signed as they should be.
#[test]
fn requests_for_certificates() {
    target("requests_for_certificates", &[201, 400], fuzz_requests_for_certificates);
}

async fn fuzz_requests_for_certificates(mut run: Run) {
    let mut site = Site::new().await;
    let keys = [
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap(),
    ];
    while let Some((_, mut dice)) = run.next() {
        let key = dice.pick(&keys);
        let csr = match odd_request(&mut dice, key) {
            Some(der) => written(&mut dice, der),
            None => continue,
        };
        let kind = *dice.pick(&["", "etcd", "front-proxy", "kubelet"]);
        let body = json!({ "cluster_uuid": site.cluster, "csr": csr, "ca_cert_type": kind });
        let sent = Sent::new("POST", "/v1/certificates")
            .header("x-auth-token", site.demo.as_str())
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = site.wire.ask(&sent).await;
        let Some(answer) = run.check(&sent, &answer) else { continue };
        if answer.status == 201 {
            let pem = answer.json().unwrap()["pem"].as_str().unwrap().to_owned();
            let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            let (_, made) =
                x509_parser::certificate::X509Certificate::from_der(&block.contents).unwrap();
            let constraints = made.basic_constraints();
            if made.is_ca() || constraints.is_err() {
                run.fail(&csr, &format!("it has become a CA, or nobody knows: {pem}"));
            }
        }
    }
    run.end();
}

/// A request that its key has signed, whatever else is in it.
pub fn odd_request(dice: &mut Dice, key: &KeyPair) -> Option<Vec<u8>> {
    const OIDS: [&[u64]; 9] = [
        &[2, 5, 29, 14],
        &[2, 5, 29, 15],
        &[2, 5, 29, 17],
        &[2, 5, 29, 19],
        &[2, 5, 29, 37],
        &[2, 5, 29, 35],
        &[2, 5, 29, 32],
        &[1, 3, 6, 1, 5, 5, 7, 1, 1],
        &[1, 2, 3, 4],
    ];
    /// Contents that are something, for whatever they are put under.
    const CONTENTS: [&[u8]; 8] = [
        &[0x30, 0x00],
        &[0x30, 0x03, 0x01, 0x01, 0xff],
        &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00],
        &[0x03, 0x02, 0x05, 0xa0],
        &[0x03, 0x03, 0x07, 0xff, 0x80],
        &[0x30, 0x06, 0x87, 0x04, 10, 0, 0, 1],
        &[0x30, 0x0a, 0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 2],
        &[0x04, 0x00],
    ];
    const NAMES: [&str; 6] = ["k.example", "*.example", "10.0.0.1", "a_b", "xn--e1afmkfd", "::1"];
    let names: Vec<String> = (0..dice.below(4)).map(|_| (*dice.pick(&NAMES)).to_owned()).collect();
    let mut params = CertificateParams::new(names).ok()?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    for _ in 0..dice.below(5) {
        let kind = match dice.below(4) {
            0 => DnType::CommonName,
            1 => DnType::OrganizationName,
            2 => DnType::OrganizationalUnitName,
            _ => DnType::CustomDnType(dice.pick(&OIDS).to_vec()),
        };
        let mut text = (*dice.pick(&["admin", "system:masters", "é", ""])).to_owned();
        if dice.one_in(4) {
            mutate::text(dice, &mut text);
        }
        params.distinguished_name.push(kind, text);
    }
    for _ in 0..dice.below(4) {
        let mut content = dice.pick(&CONTENTS).to_vec();
        if dice.one_in(3) {
            mutate::bytes(dice, &mut content);
        }
        let oid = *dice.pick(&OIDS);
        let mut extension = CustomExtension::from_oid_content(oid, content);
        extension.set_criticality(dice.one_in(4));
        params.custom_extensions.push(extension);
    }
    Some(params.serialize_request(key).ok()?.der().to_vec())
}

/// DER as PEM, either of which may be damaged.
pub fn written(dice: &mut Dice, mut der: Vec<u8>) -> String {
    if dice.one_in(3) {
        mutate::bytes(dice, &mut der);
    }
    let label = *dice.pick(&["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "CERTIFICATE"]);
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let width = *dice.pick(&[64, 64, 64, 76, 1, 10_000]);
    let lines: Vec<&str> =
        body.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let end = *dice.pick(&["\n", "\n", "\r\n", "\n\n", ""]);
    let mut pem = format!("-----BEGIN {label}-----{end}{}", lines.join(end));
    pem += &format!("{end}-----END {label}-----{end}");
    if dice.one_in(8) {
        mutate::text(dice, &mut pem);
    }
    pem
}
