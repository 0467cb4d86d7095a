//! Numbers of things in words.

/// The noun, or its plural where there is not one of them. `noun` is one of them, and may name two
/// things: `line or record`.
pub fn plural(number: u64, noun: &str) -> String {
    if number == 1 {
        return noun.to_owned();
    }
    let ending = |noun: &str| match noun.ends_with("sh") || noun.ends_with("ch") {
        true => "es",
        false => "s",
    };
    let plurals = noun.split(" or ");
    let plurals: Vec<_> = plurals.map(|noun| noun.to_owned() + ending(noun)).collect();
    plurals.join(" or ")
}

/// A number of things as errors tell it, without commas: it will be compared with another.
pub fn exact_count(number: u64, noun: &str) -> String {
    format!("{number} {}", plural(number, noun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_no_plural() {
        assert_eq!(exact_count(0, "sector"), "0 sectors");
        assert_eq!(exact_count(1, "sector"), "1 sector");
        assert_eq!(exact_count(1_000, "sector"), "1000 sectors");
        assert_eq!(exact_count(1, "mismatch"), "1 mismatch");
        assert_eq!(exact_count(2, "mismatch"), "2 mismatches");
        assert_eq!(exact_count(2, "line or record"), "2 lines or records");
    }
}
