//! `cargo xtask kafka`: an Apache Kafka on loopback for people at work.
//!
//! Owns where it lies, which is in the cache folder, and on which ports. It goes on until it is stopped; its data
//! stay until they are removed. What a cluster is and how it starts is `kafka-cluster`'s.

use std::path::PathBuf;

use kafka_cluster::{Cluster, Installation, Listener, Options, Security, cache_dir, version};

const PORT: u16 = 9092;
const USAGE: &str = "usage: cargo xtask kafka <what>

  start [--nodes 1|3] [--secure] [--port N]   starts a cluster (first port 9092) and prints bootstrap.servers;
                                              without flags, starts again the one that is there
  status           its nodes, and bootstrap.servers
  stop             stops all nodes; the data stay
  kill N           kill -9 of node N, counted from 1
  up N             starts node N again
  tool CLASS …     one of Kafka's console tools against it, as `tool TopicCommand --list`
  clean            stops all nodes and removes the data
  fetch            fetches the jars and nothing else";

/// # Errors
/// For people: what could not be done, and why.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["start", ref flags @ ..] => start(flags),
        ["status"] => status(&existing()?),
        ["stop"] => existing()?.stop_all(),
        ["kill", node] => on_node(node, Cluster::kill),
        ["up", node] => on_node(node, Cluster::up),
        ["tool", class, ref arguments @ ..] => tool(class, arguments),
        ["clean"] => clean(),
        ["fetch"] => Installation::prepared().map(drop),
        _ => Err(USAGE.to_owned()),
    }
}

fn start(flags: &[&str]) -> Result<(), String> {
    let folder = folder()?;
    let cluster = match (Cluster::kept(&folder)?, flags) {
        (Some(cluster), []) => {
            cluster.up_all()?;
            cluster
        }
        (Some(_), _) => {
            return Err("there is a cluster already: `start` without flags starts it, `clean` removes it".to_owned());
        }
        (None, flags) => {
            let (options, port) = parse(flags)?;
            eprintln!("kafka: starting Apache Kafka {}, nodes: {}", version(), options.nodes);
            Cluster::keep(&folder, port, &options)?
        }
    };
    status(&cluster)
}

fn parse(flags: &[&str]) -> Result<(Options, u16), String> {
    let (mut options, mut port) = (Options::default(), PORT);
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match *flag {
            "--secure" => options.security = Security::All,
            "--nodes" => {
                options.nodes = match flags.next() {
                    Some(&"1") => 1,
                    Some(&"3") => 3,
                    other => return Err(format!("--nodes is 1 or 3, not {other:?}")),
                }
            }
            "--port" => port = flags.next().and_then(|port| port.parse().ok()).ok_or("--port needs a number")?,
            other => return Err(format!("there is no flag `{other}`\n\n{USAGE}")),
        }
    }
    Ok((options, port))
}

fn status(cluster: &Cluster) -> Result<(), String> {
    for node in 1..=cluster.len() {
        let state = if cluster.is_up(node) { "up" } else { "down" };
        eprintln!("node {node} is {state}; it logs to {}", cluster.log(node).display());
    }
    if let Some(credentials) = cluster.credentials() {
        for listener in Listener::ALL.into_iter().skip(1) {
            eprintln!("{:<15} {}", listener.name(), cluster.bootstrap_of(listener));
        }
        let (user, password) = (credentials.user, credentials.password);
        eprintln!("user {user}, password {password}; the authority's certificate is {}", credentials.ca.display());
    }
    // Alone on stdout, for scripts.
    println!("{}", cluster.bootstrap());
    Ok(())
}

fn on_node(node: &str, act: impl Fn(&Cluster, u32) -> Result<(), String>) -> Result<(), String> {
    let cluster = existing()?;
    let number = node.parse().ok().filter(|number| (1..=cluster.len()).contains(number));
    act(&cluster, number.ok_or_else(|| format!("there is no node {node}: they are 1 to {}", cluster.len()))?)
}

fn tool(class: &str, arguments: &[&str]) -> Result<(), String> {
    let status = existing()?.tool_command(class, arguments).status();
    let status = status.map_err(|error| format!("run {class}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{class} failed ({status})")) }
}

fn clean() -> Result<(), String> {
    let folder = folder()?;
    if let Some(cluster) = Cluster::kept(&folder)? {
        cluster.stop_all()?;
        cluster.destroy();
    }
    if !folder.exists() {
        return Ok(());
    }
    std::fs::remove_dir_all(&folder).map_err(|error| format!("remove {}: {error}", folder.display()))
}

fn existing() -> Result<Cluster, String> {
    Cluster::kept(&folder()?)?.ok_or_else(|| "there is no cluster: `cargo xtask kafka start` makes one".to_owned())
}

fn folder() -> Result<PathBuf, String> {
    Ok(cache_dir()?.join("kafka-dev"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_unknown_ones_refused() {
        let (options, port) = parse(&["--nodes", "3", "--secure", "--port", "19092"]).unwrap();
        assert_eq!((options.nodes, options.security, port), (3, Security::All, 19092));
        assert_eq!(parse(&[]).unwrap().1, PORT);
        assert!(parse(&["--nodes", "2"]).is_err());
        assert!(parse(&["--fast"]).unwrap_err().contains("--fast"));
    }
}
