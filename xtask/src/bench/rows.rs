// SPDX-License-Identifier: Apache-2.0
//! What the measuring program prints: a JSON row for each figure (tests/src/bench/row.rs).

use std::collections::HashMap;

use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    measured: String,
    figure: String,
    value: Option<u64>,
    absent: Option<String>,
}

/// The rows of one nested host.
#[derive(Default)]
pub(super) struct Rows(HashMap<(String, String), Result<u64, String>>);

impl Rows {
    /// Reads the program's output; lines that are no rows are not its own.
    pub(super) fn parse(output: &str) -> Self {
        let rows = output.lines().filter_map(|line| serde_json::from_str::<Row>(line).ok());
        let reading = |row: &Row| row.value.ok_or_else(|| row.absent.clone().unwrap_or_default());
        Self(rows.map(|row| ((row.measured.clone(), row.figure.clone()), reading(&row))).collect())
    }

    /// Adds those of another host.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// A figure of what was measured, or why there is none.
    pub(super) fn get(&self, measured: &str, figure: &str) -> Result<u64, String> {
        let find = |figure: &str| self.0.get(&(measured.to_owned(), figure.to_owned())).cloned();
        find(figure).or_else(|| find("all")).unwrap_or_else(|| Err("not measured".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_finds_values_reasons_and_reasons_for_everything() {
        let rows = Rows::parse(
            "noise\n{\"measured\":\"secret\",\"figure\":\"splits_2m\",\"value\":7}\n\
             {\"measured\":\"secret\",\"figure\":\"stage2_4k\",\"absent\":\"EFAULT\"}\n\
             {\"measured\":\"pool\",\"figure\":\"all\",\"absent\":\"not in this kernel\"}\n",
        );
        assert_eq!(rows.get("secret", "splits_2m"), Ok(7));
        assert_eq!(rows.get("secret", "stage2_4k"), Err("EFAULT".into()));
        assert_eq!(rows.get("pool", "splits_2m"), Err("not in this kernel".into()));
        assert_eq!(rows.get("thp", "splits_2m"), Err("not measured".into()));
    }
}
