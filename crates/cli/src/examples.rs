//! The examples that help pages and manual pages show: one table.
//!
//! A test finds each command that has none, and reads each example as a command line.

use clap::Command;

/// A command without the program's name, and lines that use it, likewise. What follows `>`, `<` or
/// `|` is the shell's.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("", &["playground", "kv put apple red", "ctl cluster status"]),
    ("playground", &["playground", "playground --stores 5 --pds 3 --dir data"]),
    (
        "pd",
        &[
            "pd --id 1 --dir data/pd --addr 127.0.0.1:2379",
            "pd --id 4 --dir data/pd-4 --addr host4:2379 --join host1:2379",
        ],
    ),
    ("store", &["store --dir data/store-1 --addr 10.0.0.7:20160 --pd host1:2379 --label zone=a"]),
    ("gateway", &["gateway --addr 127.0.0.1:8080 --pd host1:2379,host2:2379"]),
    ("kv", &["kv put apple red", "kv get apple", "kv scan --prefix app"]),
    ("kv get", &["kv get apple", "kv get --raw picture > picture.png"]),
    ("kv put", &["kv put apple red", "kv put picture --file picture.png", "kv put --hex 00ff 01"]),
    ("kv delete", &["kv delete apple", "kv delete --prefix fruit/", "kv delete --range a c --yes"]),
    ("kv scan", &["kv scan a c --limit 10", "kv scan --prefix fruit/ --reverse -o json"]),
    ("kv cas", &["kv cas apple red green", "kv cas --absent pear green"]),
    ("kv load", &["kv load rows.tsv", "kv load - < rows.tsv"]),
    ("kv dump", &["kv dump > rows.tsv", "kv dump --prefix fruit/ --hex"]),
    ("ctl", &["ctl cluster status", "ctl store list", "ctl region list"]),
    ("ctl cluster", &["ctl cluster status", "ctl cluster wait healthy --timeout 60s"]),
    ("ctl cluster status", &["ctl cluster status -o json", "ctl cluster status --watch"]),
    ("ctl cluster wait", &["ctl cluster wait healthy --timeout 5m"]),
    ("ctl pd", &["ctl pd list", "ctl pd remove 2"]),
    ("ctl pd list", &["ctl pd list -o json"]),
    ("ctl pd add", &["ctl pd add 4 host4:2379"]),
    ("ctl pd remove", &["ctl pd remove 2"]),
    ("ctl pd transfer-leader", &["ctl pd transfer-leader 3"]),
    ("ctl store", &["ctl store list", "ctl store drain 4 --wait"]),
    ("ctl store list", &["ctl store list -o json"]),
    ("ctl store show", &["ctl store show 4"]),
    ("ctl store drain", &["ctl store drain 4 --check", "ctl store drain 4 --wait --timeout 2m"]),
    ("ctl store remove", &["ctl store remove 4"]),
    ("ctl region", &["ctl region list", "ctl region move-peer 7 1 4"]),
    ("ctl region list", &["ctl region list -o json", "ctl region list --store 4"]),
    ("ctl region hot", &["ctl region hot --by writes", "ctl region hot --by bytes --limit 3"]),
    ("ctl region show", &["ctl region show 7"]),
    ("ctl region explain", &["ctl region explain 7"]),
    ("ctl region split", &["ctl region split 7", "ctl region split 7 --at m"]),
    ("ctl region transfer-leader", &["ctl region transfer-leader 7 2"]),
    ("ctl region move-peer", &["ctl region move-peer 7 1 4"]),
    ("ctl region add-peer", &["ctl region add-peer 7 4"]),
    ("ctl region remove-peer", &["ctl region remove-peer 7 1"]),
    ("ctl operator", &["ctl operator list", "ctl operator cancel 12"]),
    ("ctl operator list", &["ctl operator list -o json", "ctl operator list --history"]),
    ("ctl operator show", &["ctl operator show 12"]),
    ("ctl operator cancel", &["ctl operator cancel 12"]),
    ("ctl scheduler", &["ctl scheduler list", "ctl scheduler explain repair"]),
    ("ctl scheduler list", &["ctl scheduler list -o json"]),
    ("ctl scheduler explain", &["ctl scheduler explain balance-replicas"]),
    ("cert", &["cert create-ca --dir ca", "cert create --ca ca --dir admin --role admin"]),
    ("cert create-ca", &["cert create-ca --dir ca"]),
    (
        "cert create",
        &[
            "cert create --ca ca --dir store-1 --role store --host store-1.example",
            "cert create --ca ca --dir pd-1 --role pd --id 1 --host 10.0.0.7 --valid-for 90d",
        ],
    ),
    ("demo", &["demo replication", "demo partition --pace 3s"]),
    ("demo replication", &["demo replication", "demo replication --replicas 3"]),
    ("demo scaling", &["demo scaling", "demo scaling --stores 7"]),
    ("demo partition", &["demo partition", "demo partition --pace 3s"]),
    ("bench", &["bench run --op put --clients 64", "bench compare --etcd ./etcd"]),
    (
        "bench run",
        &["bench run --op ycsb-b --clients 64 --seconds 30", "bench run --op put --rate 2000"],
    ),
    ("bench compare", &["bench compare --clients 1,64 --etcd ./etcd"]),
    ("bench bars", &["bench bars --only cost"]),
    (
        "completions",
        &[
            "completions bash > /etc/bash_completion.d/flotilla",
            "completions fish > ~/.config/fish/completions/flotilla.fish",
        ],
    ),
    ("man", &["man | man -l -", "man --dir /usr/local/share/man/man1"]),
];

/// `command` with its examples and those of all commands below it on their help pages.
pub fn added_to(command: Command) -> Command {
    add(command, "")
}

fn add(mut command: Command, path: &str) -> Command {
    let names = command.get_subcommands().map(|sub| sub.get_name().to_string());
    for name in names.collect::<Vec<_>>() {
        let below = format!("{path} {name}");
        command = command.mut_subcommand(name, |sub| add(sub, below.trim_start()));
    }
    let Some((_, lines)) = EXAMPLES.iter().find(|(of, _)| *of == path) else { return command };
    let lines: String = lines.iter().map(|line| format!("\n  flotilla {line}")).collect();
    let before = command.get_after_help().map(|help| format!("{help}\n\n")).unwrap_or_default();
    command.after_help(format!("{before}Examples:{lines}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(command: &Command, path: &str, found: &mut Vec<String>) {
        found.push(path.to_string());
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            paths(sub, format!("{path} {}", sub.get_name()).trim_start(), found);
        }
    }

    #[test]
    fn each_command_has_an_example_and_each_example_is_one_of_its_command() {
        let mut found = vec![];
        paths(&crate::command(), "", &mut found);
        let shown: Vec<&str> = EXAMPLES.iter().map(|(path, _)| *path).collect();
        let without = found.iter().filter(|path| !shown.contains(&path.as_str()));
        assert_eq!(without.collect::<Vec<_>>(), Vec::<&String>::new(), "no example");
        for (path, lines) in EXAMPLES {
            assert!(found.iter().any(|known| known == path), "{path} is no command");
            for line in *lines {
                assert!(line.starts_with(path), "{line}");
                let line = line.split(['|', '<', '>']).next().unwrap_or_default();
                let words = std::iter::once("flotilla").chain(line.split_whitespace());
                let parsed = crate::command().try_get_matches_from(words);
                parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }
}
