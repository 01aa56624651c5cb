//! Where the content of DATA frames lies in the bytes of an HTTP/2 client (RFC 9113 section 4.1). The http room has read the
//! same bytes without a fault before they come here.

const PREFACE_BYTES: u8 = 24;
const HEADER_BYTES: usize = 9;
const DATA: u8 = 0;

/// A place among frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    preface: u8,
    header: [u8; HEADER_BYTES],
    have: usize,
    /// Payload of the current frame that is still to come.
    left: usize,
    is_data: bool,
    /// A gap hid where the next frame begins.
    lost: bool,
}

impl Frames {
    /// Calls `part` with each run of bytes, and whether it is content.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut part: impl FnMut(&[u8], bool)) {
        while !bytes.is_empty() {
            let (taken, content) = if self.preface < PREFACE_BYTES {
                let here = usize::from(PREFACE_BYTES - self.preface).min(bytes.len());
                self.preface += here as u8;
                (here, false)
            } else if self.left > 0 {
                let here = self.left.min(bytes.len());
                self.left -= here;
                (here, self.is_data)
            } else {
                let here = (HEADER_BYTES - self.have).min(bytes.len());
                self.header[self.have..self.have + here].copy_from_slice(&bytes[..here]);
                self.have += here;
                if self.have == HEADER_BYTES {
                    self.have = 0;
                    let [a, b, c, kind, ..] = self.header;
                    self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                    self.is_data = kind == DATA;
                }
                (here, false)
            };
            part(&bytes[..taken], content);
            bytes = &bytes[taken..];
        }
    }

    /// Goes on by bytes that nobody saw.
    pub(super) fn skip(&mut self, bytes: u64) {
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= self.left => self.left -= bytes,
            _ => self.lost = true,
        }
    }

    /// Whether nothing that comes can be told apart.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }
}
