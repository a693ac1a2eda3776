//! The judgement of tokens.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::error::{Fault, Kind};
use crate::secret::Secret;

/// How many tokens of one request are looked at: one each from the message, the header and the query, and one to spare.
pub const PRESENTED_MAX: usize = 4;

/// In front of the digest of a token, where that is configured instead of the token itself.
const DIGEST_PREFIX: &str = "sha256:";

/// What a verifier thinks of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It may go on.
    Accepted,
    /// It brought no token, and one is needed.
    Missing,
    /// It brought tokens, and none is accepted.
    Wrong,
}

impl Verdict {
    /// Turns a refusal into a fault.
    ///
    /// # Errors
    /// When the verdict is not [`Self::Accepted`].
    pub fn into_result(self) -> Result<(), Fault> {
        match self {
            Self::Accepted => Ok(()),
            Self::Missing => Err(Fault::new(Kind::Unauthorized, "a token is required")),
            Self::Wrong => Err(Fault::new(Kind::Unauthorized, "the token is not accepted")),
        }
    }
}

/// Knows the accepted tokens by their SHA-256 digests alone. There may be several, so that they can be rotated.
#[derive(Clone)]
pub struct Verifier {
    accepted: Accepted,
}

#[derive(Clone)]
enum Accepted {
    Everybody,
    Digests(Vec<[u8; 32]>),
}

impl Verifier {
    /// No token is configured: everybody is accepted. Only ever chosen by this name, and never the outcome of a
    /// configuration that came out empty.
    #[must_use]
    pub const fn open() -> Self {
        Self { accepted: Accepted::Everybody }
    }

    /// Accepts these tokens, without blanks and a leading `Bearer`. Instead of a token, its digest may be given as
    /// `sha256:` and 64 hexadecimal digits, so that a configuration holds no secret; of a digest in another form comes
    /// nothing that could be presented. Of blank tokens, or of none at all, comes a verifier that accepts nobody.
    #[must_use]
    pub fn new(tokens: impl IntoIterator<Item = Secret>) -> Self {
        let tokens = tokens.into_iter();
        let digests = tokens.filter_map(|token| Configured::read(token.reveal()).digest()).collect();
        Self { accepted: Accepted::Digests(digests) }
    }

    /// Whether a configured token begins like a digest and is none: a slip, of which the operator should be told.
    #[must_use]
    pub fn is_misspelt(token: &Secret) -> bool {
        matches!(Configured::read(token.reveal()), Configured::Misspelt)
    }

    /// Whether everybody is accepted.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.accepted, Accepted::Everybody)
    }

    /// Judges the tokens of one request, of which at most [`PRESENTED_MAX`] are looked at. How long this takes depends
    /// on how many tokens there are on either side and how long the presented ones are, and not on what they say.
    pub fn judge<'a>(&self, presented: impl IntoIterator<Item = &'a str>) -> Verdict {
        let Accepted::Digests(accepted) = &self.accepted else {
            return Verdict::Accepted;
        };
        let mut matches = Choice::from(0);
        let mut is_missing = true;
        for token in presented.into_iter().take(PRESENTED_MAX) {
            let Some(digest) = digest(token) else { continue };
            is_missing = false;
            for candidate in accepted {
                matches |= candidate.ct_eq(&digest);
            }
        }
        if bool::from(matches) {
            Verdict::Accepted
        } else if is_missing {
            Verdict::Missing
        } else {
            Verdict::Wrong
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.accepted {
            Accepted::Everybody => f.write_str("Verifier(open)"),
            Accepted::Digests(digests) => write!(f, "Verifier({} tokens)", digests.len()),
        }
    }
}

/// What stands in a configuration.
enum Configured {
    Nothing,
    Digest([u8; 32]),
    Misspelt,
}

impl Configured {
    fn read(text: &str) -> Self {
        let Some(digits) = bare_token(text).strip_prefix(DIGEST_PREFIX) else {
            return digest(text).map_or(Self::Nothing, Self::Digest);
        };
        digest_from_hex(digits).map_or(Self::Misspelt, Self::Digest)
    }

    const fn digest(self) -> Option<[u8; 32]> {
        match self {
            Self::Digest(digest) => Some(digest),
            Self::Nothing | Self::Misspelt => None,
        }
    }
}

/// Reads a SHA-256 digest from exactly 64 hexadecimal digits in either case.
#[must_use]
pub fn digest_from_hex(digits: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if pairs.len() != digest.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(digest)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// A token without the blanks and the `Bearer` (in any case, however often) in front of it.
#[must_use]
pub fn bare_token(presented: &str) -> &str {
    let mut token = presented.trim();
    while let Some((scheme, rest)) = token.split_once(char::is_whitespace)
        && scheme.eq_ignore_ascii_case("bearer")
    {
        token = rest.trim_start();
    }
    if token.eq_ignore_ascii_case("bearer") { "" } else { token }
}

fn digest(token: &str) -> Option<[u8; 32]> {
    let token = bare_token(token);
    (!token.is_empty()).then(|| Sha256::digest(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier(tokens: &[&str]) -> Verifier {
        Verifier::new(tokens.iter().map(|token| Secret::new(*token)))
    }

    #[test]
    fn without_a_configured_token_everybody_is_accepted() {
        for presented in [vec![], vec![""], vec!["anything"]] {
            assert_eq!(Verifier::open().judge(presented), Verdict::Accepted);
        }
        assert!(Verifier::open().is_open());
    }

    #[test]
    fn any_of_several_accepted_tokens_opens_so_that_they_can_be_rotated() {
        let both = verifier(&["old", "new"]);
        assert!(!both.is_open());
        assert_eq!(both.judge(["old"]), Verdict::Accepted);
        assert_eq!(both.judge(["new"]), Verdict::Accepted);
        assert_eq!(both.judge(["other"]), Verdict::Wrong);
        assert_eq!(both.judge(["oldnew"]), Verdict::Wrong);
        assert_eq!(both.judge(["OLD"]), Verdict::Wrong);
    }

    #[test]
    fn one_right_token_is_enough_wherever_it_stands_among_wrong_ones() {
        let one = verifier(&["right"]);
        assert_eq!(one.judge(["right", "wrong", "wrong"]), Verdict::Accepted);
        assert_eq!(one.judge(["wrong", "", "right"]), Verdict::Accepted);
        assert_eq!(one.judge(["wrong", "wrong"]), Verdict::Wrong);
    }

    #[test]
    fn no_more_tokens_than_the_limit_are_looked_at() {
        let one = verifier(&["right"]);
        let mut presented = vec!["wrong"; PRESENTED_MAX - 1];
        presented.push("right");
        assert_eq!(one.judge(presented.iter().copied()), Verdict::Accepted);
        presented.insert(0, "wrong");
        assert_eq!(one.judge(presented.iter().copied()), Verdict::Wrong);
        assert_eq!(one.judge(std::iter::repeat("wrong")), Verdict::Wrong);
    }

    #[test]
    fn the_bearer_prefix_and_blanks_do_not_matter_on_either_side() {
        for configured in ["abc", "Bearer abc", " bearer\tabc "] {
            for presented in ["abc", "Bearer abc", "BEARER   abc\r\n", " abc "] {
                assert_eq!(verifier(&[configured]).judge([presented]), Verdict::Accepted, "{configured}, {presented}");
            }
        }
    }

    #[test]
    fn nothing_presented_is_told_apart_from_something_wrong() {
        let one = verifier(&["abc"]);
        assert_eq!(one.judge([]), Verdict::Missing);
        assert_eq!(one.judge(["", "  ", "Bearer", "bearer "]), Verdict::Missing);
        assert_eq!(one.judge(["", "x"]), Verdict::Wrong);
    }

    #[test]
    fn blank_configured_tokens_accept_nobody_and_never_everybody() {
        for configured in [&[][..], &[""], &["  ", "Bearer "]] {
            let none = verifier(configured);
            assert_eq!(none.judge([""]), Verdict::Missing);
            assert_eq!(none.judge(["Bearer "]), Verdict::Missing);
            assert_eq!(none.judge(["x"]), Verdict::Wrong);
        }
    }

    #[test]
    fn a_token_can_be_configured_by_its_digest_which_opens_nothing_itself() {
        const DIGITS: &str = "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7"; // of hunter2
        for configured in [
            format!("sha256:{DIGITS}"),
            format!("sha256:{}", DIGITS.to_uppercase()),
            format!(" Bearer sha256:{DIGITS} "),
        ] {
            let one = verifier(&[&configured]);
            assert_eq!(one.judge(["Bearer hunter2"]), Verdict::Accepted);
            for presented in [configured.as_str(), DIGITS, "hunter3"] {
                assert_eq!(one.judge([presented]), Verdict::Wrong);
            }
            assert!(!Verifier::is_misspelt(&Secret::new(configured)));
        }
    }

    #[test]
    fn a_misspelt_digest_is_found_out_and_accepts_nobody() {
        let too_long = format!("sha256:{}", "a".repeat(65));
        for configured in ["sha256:", "sha256:abc", &too_long, &format!("sha256:{}", "g".repeat(64))] {
            assert!(Verifier::is_misspelt(&Secret::new(configured)), "{configured}");
            assert_eq!(verifier(&[configured]).judge([configured]), Verdict::Wrong, "{configured}");
        }
        for plain in ["", "sha256", "abc", "SHA256:abc"] {
            assert!(!Verifier::is_misspelt(&Secret::new(plain)), "{plain}");
        }
    }

    #[test]
    fn a_verifier_holds_and_prints_no_token() {
        assert_eq!(format!("{:?} {:?}", verifier(&["hunter2"]), Verifier::open()), "Verifier(1 tokens) Verifier(open)");
        let Accepted::Digests(digests) = verifier(&["hunter2"]).accepted else { panic!("it is not open") };
        let expected: [u8; 32] = Sha256::digest(b"hunter2").into();
        assert_eq!(digests, [expected]);
    }

    #[test]
    fn a_refusal_is_an_unauthorized_fault_that_names_no_token() {
        assert_eq!(Verdict::Accepted.into_result(), Ok(()));
        for (verdict, text) in
            [(Verdict::Missing, "a token is required"), (Verdict::Wrong, "the token is not accepted")]
        {
            assert_eq!(verdict.into_result(), Err(Fault::new(Kind::Unauthorized, text)));
        }
    }
}
