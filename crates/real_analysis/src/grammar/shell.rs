//! The POSIX shell. A bare hole is dangerous when it can contain an operator, an expansion or a quote; between double quotes
//! when it can contain `"`, `` ` ``, `$` or `\`; between single quotes when it can contain `'`. The word that names the
//! program is dangerous whatever it contains.

use super::{Verdict, scan};
use crate::text::{Checks, Hole, Mask, Segment, Text};

#[derive(Clone, PartialEq)]
struct State {
    quote: Option<char>,
    /// Nothing but the start of the program's name has been read.
    at_program: bool,
}

const OPERATORS: Mask = Mask::ascii(b";&|`$<>()\n\r'\"\\*?[]!#");
const IN_DOUBLE: Mask = Mask::ascii(b"\"`$\\");
const COMMANDS: &[&str] = &[
    "echo",
    "ls",
    "cat",
    "rm",
    "cp",
    "mv",
    "ping",
    "curl",
    "wget",
    "grep",
    "find",
    "tar",
    "zip",
    "unzip",
    "git",
    "sudo",
    "chmod",
    "chown",
    "mkdir",
    "touch",
    "nslookup",
    "dig",
    "ssh",
    "scp",
    "kill",
    "bash",
    "sh",
    "python",
    "python3",
    "convert",
    "ffmpeg",
    "docker",
    "useradd",
    "whoami",
    "head",
    "tail",
    "kubectl",
    "adb",
    "systemctl",
    "apt-get",
    "pip",
    "npm",
    "node",
    "java",
    "javac",
    "gcc",
    "mysql",
    "mysqldump",
    "psql",
    "pg_dump",
    "openssl",
    "iptables",
    "ifconfig",
    "traceroute",
    "nmap",
    "whois",
    "rsync",
    "mount",
    "umount",
    "sed",
    "awk",
    "gpg",
    "gzip",
    "gunzip",
    "tee",
    "ps",
    "df",
    "du",
    "xargs",
    "crontab",
    "pkill",
    "killall",
    "telnet",
    "nc",
    "perl",
    "php",
    "ruby",
    "notify-send",
    "virsh",
    "qemu-img",
    "su",
    "wc",
];

/// Whether hostile content can leave its place in a command line.
pub(crate) fn judge(text: &Text) -> Option<Verdict> {
    let start = State { quote: None, at_program: true };
    scan(text, &start, &mut advance, &mut |state, hole| breaks(state, hole))
}

fn breaks(state: &mut State, hole: Hole) -> Option<f32> {
    let dangerous = match state.quote {
        None if state.at_program => true,
        None => {
            // What follows a line break at the end is the program's own.
            let one_line = hole.checks.has(Checks::ONE_LINE);
            let mask = if one_line { hole.mask.minus(Mask::char('\n')) } else { hole.mask };
            mask.intersects(OPERATORS) && !hole.checks.has(Checks::SHELL_QUOTED)
        }
        Some('\'') => hole.mask.has('\''),
        Some(_) => hole.mask.intersects(IN_DOUBLE),
    };
    state.at_program = false;
    dangerous.then_some(0.95)
}

fn advance(state: &mut State, text: &str) {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (state.quote, character) {
            (None, '\'' | '"') => state.quote = Some(character),
            (Some(quote), end) if quote == end => state.quote = None,
            (None | Some('"'), '\\') => drop(characters.next()),
            (None, ';' | '|' | '&') => state.at_program = true,
            (None, space) if space.is_whitespace() => {}
            _ => state.at_program = false,
        }
    }
}

/// A program named by a text, without a shell: dangerous when hostile content chooses it.
pub(crate) fn judge_program(text: &Text) -> Option<Verdict> {
    let mut taint = 0;
    for alternative in text.alternatives() {
        if let Some(Segment::Hole(hole)) = alternative.first() {
            taint |= hole.taint;
        }
    }
    Verdict::of(taint, 0.8)
}

/// Whether the constant parts begin with the name of a usual command.
pub(crate) fn looks_like(text: &Text) -> bool {
    text.alternatives().iter().any(|alternative| match alternative.first() {
        Some(Segment::Text(text)) => match text.split_once(' ') {
            Some((word, _)) => COMMANDS.contains(&word),
            None => false,
        },
        _ => false,
    })
}

/// Whether a text begins with a word in lower case and a space.
pub(crate) fn begins_with_word(text: &Text) -> bool {
    text.alternatives().iter().any(|alternative| match alternative.first() {
        Some(Segment::Text(text)) => text.split_once(' ').is_some_and(|(word, _)| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        }),
        _ => false,
    })
}

/// Whether a text is what `" ".join(words)` gives.
pub(crate) fn is_word_list(text: &Text) -> bool {
    let more = |segment: &Segment| match segment {
        Segment::Repeat(more) => more
            .alternatives()
            .iter()
            .any(|alternative| matches!(alternative.first(), Some(Segment::Text(space)) if &**space == " ")),
        _ => false,
    };
    text.alternatives().iter().any(|alternative| alternative.iter().any(more))
}
