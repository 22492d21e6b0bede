//! Random identities, random damage, random text.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{1,40}"
}

prop_compose! {
    fn identities()(
        subject in text(),
        claims in prop::collection::btree_map(text(), text(), 0..4),
        left in prop::option::of(1..100_000_u64),
    ) -> Identity {
        Identity {
            subject: Subject::new(&subject).unwrap(),
            claims: claims.into_iter().map(|(name, value)| (name, Value::from(value))).collect(),
            expires: left.map(|left| at(NOW + left)),
            ..ada()
        }
    }
}

proptest! {
    #[test]
    fn every_ticket_is_redeemed_to_the_same_identity(
        identity in identities(), id: [u8; ID_BYTES], route in text(), origin in prop::option::of(text()),
        net in prop::option::of(any::<IpAddr>()), after in 0..4_u64,
    ) {
        let ring = of(hmac("k1", SECRET));
        let minting = Minting { identity: &identity, route: &route, origin: origin.as_deref(), net, ..minting(&identity) };
        let minted = mint(&ring, &minting, at(NOW), &id).unwrap();
        let presented =
            Presented { route: &route, origin: origin.as_deref(), net: net.unwrap_or(address("192.0.2.1")) };
        let token = minted.token.expose_secret();
        let redeemed = redeem(&ring, &RULES, token, &presented, at(NOW + after)).unwrap();
        let ticket = Some(minted.id);
        let keys = [Arc::from("k1")].into_iter().chain(identity.keys.first().cloned()).collect();
        let issued = Some(identity.issued.map_or(at(NOW), |issued| issued.min(at(NOW))));
        prop_assert_eq!(redeemed.identity, Identity { issued, way: Way::Ticket, ticket, keys, ..identity });
    }

    #[test]
    fn a_ticket_of_which_a_byte_is_another_is_refused(at: prop::sample::Index, byte in 0x20..0x7f_u8, eddsa: bool) {
        let (algorithm, material) =
            if eddsa { (Algorithm::EdDSA, OPENSSL.as_bytes()) } else { (Algorithm::HS256, SECRET) };
        let ring = of(sign_key("k1".into(), algorithm, material).unwrap());
        let good = ticket(&ring);
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let token = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(refused(&ring, &token) == "let in", token == good);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}", near in "[A-Za-z0-9_=-]{0,30}(\\.[A-Za-z0-9_=-]{0,30}){0,4}") {
        let ring = of(hmac("k1", SECRET));
        for text in [text, near] {
            prop_assert!(refused(&ring, &text) != "let in");
            let _ = (explain(&text), is_ticket(&text));
        }
    }

    #[test]
    fn claims_of_any_kind_make_nothing_panic(name in "[a-z]{3,6}|origin|until|claims", value in "\\PC{0,20}", number: f64) {
        for value in [Value::from(value), Value::from(number), json!([]), json!({"a": null})] {
            with(&name, value);
        }
    }
}
