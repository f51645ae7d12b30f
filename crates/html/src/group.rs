//! Groups what has the same cause, so that eight Deployments with one variable are one row.

/// Groups items by their cause, in the order in which the causes come first.
pub fn group_by_cause<T, C: PartialEq>(
    items: impl IntoIterator<Item = T>,
    cause: impl Fn(&T) -> C,
) -> Vec<(C, Vec<T>)> {
    let mut groups: Vec<(C, Vec<T>)> = Vec::new();
    for item in items {
        let own = cause(&item);
        match groups.iter_mut().find(|(cause, _)| *cause == own) {
            Some((_, members)) => members.push(item),
            None => groups.push((own, vec![item])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_keep_their_order_and_their_members() {
        let groups = group_by_cause([11, 25, 12, 21, 31], |number| number / 10);
        assert_eq!(groups, [(1, vec![11, 12]), (2, vec![25, 21]), (3, vec![31])]);
    }
}
