//! What a Lambda authorizer's answer means: an IAM policy, and words about the caller (pure).

use serde_json::{Map, Value};

/// What the authorizer allowed: the words that later events carry.
pub(crate) type Words = Map<String, Value>;

/// Why a caller does not get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAllowed {
    /// The policy says no, or does not say yes.
    Denied,
    /// The answer is none that API Gateway takes.
    Malformed,
}

const ACTION: &str = "execute-api:Invoke";

/// Judges an answer for one method.
pub(crate) fn judge(answer: &Value, method_arn: &str) -> Result<Words, NotAllowed> {
    let principal = answer.get("principalId").and_then(Value::as_str).ok_or(NotAllowed::Malformed)?;
    let statements = answer.get("policyDocument").and_then(|policy| policy.get("Statement"));
    let mut is_allowed = false;
    for statement in each(statements.ok_or(NotAllowed::Malformed)?) {
        let applies = applies(statement, method_arn).ok_or(NotAllowed::Malformed)?;
        match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => is_allowed |= applies,
            Some("Deny") if applies => return Err(NotAllowed::Denied),
            Some("Deny") => {}
            _ => return Err(NotAllowed::Malformed),
        }
    }
    if !is_allowed {
        return Err(NotAllowed::Denied);
    }
    let mut words = words(answer.get("context"))?;
    words.insert("principalId".into(), principal.into());
    Ok(words)
}

/// Whether a statement is about this method; `None` when it has parts that are not understood, as a condition: it must
/// not be taken for one without.
fn applies(statement: &Value, method_arn: &str) -> Option<bool> {
    if ["Condition", "NotAction", "NotResource"].iter().any(|part| statement.get(part).is_some()) {
        return None;
    }
    let action = ACTION.to_ascii_lowercase();
    let acts = any(statement.get("Action")?, |pattern| matches(&pattern.to_ascii_lowercase(), &action))?;
    let reaches = any(statement.get("Resource")?, |pattern| matches(pattern, method_arn))?;
    Some(acts && reaches)
}

fn any(patterns: &Value, is_match: impl Fn(&str) -> bool) -> Option<bool> {
    let mut found = false;
    for pattern in each(patterns) {
        found |= is_match(pattern.as_str()?);
    }
    Some(found)
}

/// IAM takes one thing where it takes a list.
fn each(one_or_many: &Value) -> &[Value] {
    match one_or_many {
        Value::Array(many) => many,
        one => std::slice::from_ref(one),
    }
}

/// `*` for any text, `?` for any character.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    // Where to go on when a text after the last star does not fit: the star takes one more.
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    from = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// API Gateway hands the words on as text, and takes nothing nested.
fn words(context: Option<&Value>) -> Result<Words, NotAllowed> {
    let context = match context {
        None | Some(Value::Null) => return Ok(Words::new()),
        Some(Value::Object(context)) => context,
        Some(_) => return Err(NotAllowed::Malformed),
    };
    let text = |(name, value): (&String, &Value)| match value {
        Value::String(_) | Value::Null => Ok((name.clone(), value.clone())),
        Value::Number(_) | Value::Bool(_) => Ok((name.clone(), Value::String(value.to_string()))),
        Value::Array(_) | Value::Object(_) => Err(NotAllowed::Malformed),
    };
    context.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ARN: &str = "arn:aws:execute-api:us-east-1:000000000000:api/local/$connect";

    fn policy(statements: &Value) -> Value {
        json!({
            "principalId": "studio",
            "policyDocument": { "Version": "2012-10-17", "Statement": statements },
            "context": { "busNo": 4_595_000, "isOne": true, "scope": "listen" },
        })
    }

    #[test]
    fn an_allowed_caller_takes_its_words_along_as_text() {
        let answer = policy(&json!([{ "Action": "execute-api:Invoke", "Effect": "Allow", "Resource": ARN }]));
        let words = judge(&answer, ARN).unwrap();
        let expected = json!({ "busNo": "4595000", "isOne": "true", "scope": "listen", "principalId": "studio" });
        assert_eq!(Value::Object(words), expected);
    }

    #[test]
    fn policies_are_read_as_iam_reads_them() {
        for (statements, allowed) in [
            (json!({ "Action": "*", "Effect": "Allow", "Resource": "*" }), true),
            (json!({ "Action": ["execute-api:*"], "Effect": "Allow", "Resource": ["a", "arn:*/local/*"] }), true),
            (json!({ "Action": "EXECUTE-API:invoke", "Effect": "Allow", "Resource": "*/$connec?" }), true),
            (json!({ "Action": "execute-api:Invoke", "Effect": "Allow", "Resource": "*/other/*" }), false),
            (json!({ "Action": "s3:*", "Effect": "Allow", "Resource": "*" }), false),
            (json!([]), false),
            (
                json!([{ "Action": "*", "Effect": "Allow", "Resource": "*" },
                    { "Action": "*", "Effect": "Deny", "Resource": "*/local/*" }]),
                false,
            ),
            (
                json!([{ "Action": "*", "Effect": "Deny", "Resource": "*/other/*" },
                    { "Action": "*", "Effect": "Allow", "Resource": "*" }]),
                true,
            ),
        ] {
            assert_eq!(
                judge(&policy(&statements), ARN).map(drop),
                if allowed { Ok(()) } else { Err(NotAllowed::Denied) },
                "{statements}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_lets_nobody_in() {
        let everything = json!({ "Action": "*", "Effect": "Allow", "Resource": "*" });
        let mut conditional = everything.clone();
        conditional["Condition"] = json!({ "IpAddress": {} });
        let mut nested = policy(&everything);
        nested["context"]["list"] = json!([1]);
        let mut nobody = policy(&everything);
        nobody["principalId"] = Value::Null;
        for answer in [
            policy(&conditional),
            policy(&json!({ "Action": "*", "Effect": "allow", "Resource": "*" })),
            policy(&json!({ "Effect": "Allow", "Resource": "*" })),
            policy(&json!("Allow")),
            nested,
            nobody,
            json!({ "isAuthorized": true }),
            Value::Null,
        ] {
            assert_eq!(judge(&answer, ARN), Err(NotAllowed::Malformed), "{answer}");
        }
    }

    #[test]
    fn wildcards_stand_for_what_they_should() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("**a**", "bab", true),
            ("", "", true),
            ("", "a", false),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
