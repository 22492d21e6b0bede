//! Masking (RFC 6455 section 5.3).

/// What the vector unit of every 64-bit machine takes at once.
const BLOCK: usize = 16;

/// The masking key of a frame, turned to where in the payload it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mask([u8; 4]);

impl Mask {
    /// The key, at the beginning of a payload.
    pub(super) fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// Unmasks the next bytes of the payload in place, or masks them: it is the same.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        let mut key = [0; BLOCK];
        for (key, byte) in key.iter_mut().zip(self.0.iter().cycle()) {
            *key = *byte;
        }
        self.0.rotate_left(bytes.len() % 4);
        // Blocks of a fixed size, and no index: the compiler makes vector instructions of this.
        let (blocks, rest) = bytes.as_chunks_mut::<BLOCK>();
        for block in blocks {
            xor(block, key);
        }
        xor(rest, key);
    }
}

fn xor(bytes: &mut [u8], key: [u8; BLOCK]) {
    for (byte, key) in bytes.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_meets_the_byte_of_the_key_at_its_place_wherever_the_payload_is_cut() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let plain: Vec<u8> = (0..100).collect();
        let masked: Vec<u8> = plain.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
        for cut in 0..=plain.len() {
            for second in cut..=plain.len() {
                let mut bytes = masked.clone();
                let mut mask = Mask::new(key);
                mask.apply(&mut bytes[..cut]);
                mask.apply(&mut bytes[cut..second]);
                mask.apply(&mut bytes[second..]);
                assert_eq!(bytes, plain, "cut at {cut} and {second}");
            }
        }
    }
}
