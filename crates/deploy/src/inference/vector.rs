//! What makes an embedding one: numbers, all finite, not all zero, as many as expected.

use serde_json::Value;

use super::Failure;

const NEXT: &str = "the model's files may be damaged or of another model: compare them with gantry models verify, and look at the server's log";

/// Judges a vector of a JSON answer and says its length and norm.
pub(super) fn judge(value: Option<&Value>, dimensions: Option<u64>) -> Result<String, Failure> {
    let Some(values) = value.and_then(Value::as_array) else {
        return Err(Failure::new("the answer has no vector where its protocol has one", NEXT));
    };
    let mut sum = 0.0;
    for (index, value) in values.iter().enumerate() {
        // JSON has no NaN: servers write null, or a text.
        match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => sum += number * number,
            None => {
                return Err(Failure::new(format!("value {index} of the vector is {value}"), NEXT));
            }
        }
    }
    let length = values.len();
    if let Some(dimensions) = dimensions
        && dimensions != length as u64
    {
        let why = format!("the vector has {length} values, not the {dimensions} that it should");
        return Err(Failure::new(why, NEXT));
    }
    let norm = sum.sqrt();
    if length == 0 || norm <= f64::EPSILON {
        return Err(Failure::new(format!("the vector of {length} values is all zero"), NEXT));
    }
    Ok(format!("{length} dimensions, norm {norm:.2}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_vector_is_one_when_it_is_finite_not_zero_and_as_long_as_expected() {
        assert_eq!(judge(Some(&json!([0.6, 0.8])), Some(2)).unwrap(), "2 dimensions, norm 1.00");
        for (value, expected) in [
            (json!([0.6, null]), "value 1 of the vector is null"),
            (json!([0.0, 0.0]), "all zero"),
            (json!([]), "all zero"),
            (json!([0.6]), "has 1 values, not the 2"),
            (json!("x"), "no vector"),
        ] {
            let dimensions = if value == json!([0.6]) { Some(2) } else { None };
            let failure = judge(Some(&value), dimensions).unwrap_err();
            assert!(failure.why.contains(expected), "{}", failure.why);
        }
    }
}
