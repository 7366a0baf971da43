// SPDX-License-Identifier: Apache-2.0
//! How long the sentences of our texts are. Long ones are counted, and nothing fails for them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A sentence has no more words than this, if it can be helped.
const MOST: usize = 30;

/// Nine in ten sentences keep to it.
const SHARE: usize = 10;

/// Prints a line for each text.
pub(super) fn report(repo: &Path) -> Result<()> {
    for path in texts(repo)? {
        let text = fs::read_to_string(&path).with_context(|| format!("Cannot read {}", path.display()))?;
        let mut words: Vec<usize> = sentences(&text).iter().map(|sentence| count(sentence)).collect();
        words.sort_unstable();
        let long = words.iter().filter(|words| **words > MOST).count();
        let p90 = words.get(words.len() * (100 - SHARE) / 100).unwrap_or(&0);
        let mark = if long * SHARE > words.len() { "warning" } else { "ok" };
        let name = path.strip_prefix(repo).unwrap_or(&path).display();
        let total = words.len();
        println!("prose {mark:<7} {name}: {long} of {total} sentences over {MOST} words, 9 in 10 within {p90}");
    }
    Ok(())
}

fn texts(repo: &Path) -> Result<Vec<PathBuf>> {
    let mut texts: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].iter().map(|name| repo.join(name)).collect();
    let docs = repo.join("docs");
    let entries = fs::read_dir(&docs).with_context(|| format!("Cannot read {}", docs.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found.sort();
    texts.append(&mut found);
    Ok(texts)
}

/// The sentences of paragraphs and of lists' items; no headings, tables or code.
fn sentences(text: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    let mut code = false;
    for line in text.lines().map(str::trim) {
        let fence = line.starts_with("```");
        code ^= fence;
        let item = line.strip_prefix("- ").or_else(|| numbered(line));
        match (code || fence || line.is_empty() || line.starts_with(['#', '|', '<']), item) {
            (true, _) => blocks.push(String::new()),
            (false, Some(item)) => blocks.push(item.to_owned()),
            (false, None) => blocks.iter_mut().last().into_iter().for_each(|block| *block += &format!(" {line}")),
        }
    }
    blocks.iter().flat_map(|block| split(block)).filter(|sentence| count(sentence) > 0).collect()
}

/// What follows `1. `.
fn numbered(line: &str) -> Option<&str> {
    let (number, rest) = line.split_once(". ")?;
    number.parse::<u32>().is_ok().then_some(rest)
}

/// A sentence ends with its mark, before a word that is not in lower case.
fn split(block: &str) -> Vec<String> {
    let mut sentences = vec![String::new()];
    let mut words = block.split_whitespace().peekable();
    while let Some(word) = words.next() {
        sentences.iter_mut().last().into_iter().for_each(|sentence| *sentence += &format!("{word} "));
        let ends = word.trim_end_matches([')', '"', '*', '`']).ends_with(['.', '!', '?']);
        if ends && words.peek().is_some_and(|next| !next.starts_with(char::is_lowercase)) {
            sentences.push(String::new());
        }
    }
    sentences
}

fn count(sentence: &str) -> usize {
    sentence.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_of_paragraphs_and_items_and_of_nothing_else() {
        let text = "# A heading. Not one\n\nFirst one\nhere. Second (e.g. this) `one`!\n- An item. Two\n1. Three\n\n\
                    ```\ncode. More\n```\n| a. | B |\n";
        assert_eq!(
            sentences(text).iter().map(|sentence| sentence.trim()).collect::<Vec<_>>(),
            ["First one here.", "Second (e.g. this) `one`!", "An item.", "Two", "Three"]
        );
        assert_eq!(count("One - two, `three` …"), 3);
    }
}
