//! Judges embedding vectors: all values are finite numbers, not all of them are zero, and there are
//! as many as expected. Damaged weights typically break one of these.

use serde_json::Value;

use super::InferenceFailure;

/// The next step after a bad vector.
const NEXT: &str = "the model's files may be damaged or belong to another model: check them with gantry models verify, and read the server's log";

/// Judges the vector in a JSON answer. Returns its length and norm as text: `384 dimensions, norm
/// 1.00`.
pub(super) fn judge_vector(
    value: Option<&Value>,
    dimensions: Option<u64>,
) -> Result<String, InferenceFailure> {
    let Some(values) = value.and_then(Value::as_array) else {
        return Err(InferenceFailure::new(
            "the answer has no vector at the expected position",
            NEXT,
        ));
    };
    let mut sum = 0.0;
    for (index, value) in values.iter().enumerate() {
        // JSON has no NaN or infinity: servers write null, or a string.
        match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => sum += number * number,
            None => {
                return Err(InferenceFailure::new(
                    format!("value {index} of the vector is {value}"),
                    NEXT,
                ));
            }
        }
    }
    let length = values.len();
    if let Some(dimensions) = dimensions
        && dimensions != length as u64
    {
        let why = format!("the vector has {length} values instead of {dimensions}");
        return Err(InferenceFailure::new(why, NEXT));
    }
    let norm = sum.sqrt();
    if length == 0 || norm <= f64::EPSILON {
        return Err(InferenceFailure::new(
            format!("all {length} values of the vector are zero"),
            NEXT,
        ));
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
        assert_eq!(
            judge_vector(Some(&json!([0.6, 0.8])), Some(2)).unwrap(),
            "2 dimensions, norm 1.00"
        );
        for (value, expected) in [
            (json!([0.6, null]), "value 1 of the vector is null"),
            (json!([0.0, 0.0]), "are zero"),
            (json!([]), "are zero"),
            (json!([0.6]), "has 1 values instead of 2"),
            (json!("x"), "no vector"),
        ] {
            let dimensions = if value == json!([0.6]) { Some(2) } else { None };
            let failure = judge_vector(Some(&value), dimensions).unwrap_err();
            assert!(failure.why.contains(expected), "{}", failure.why);
        }
    }
}
