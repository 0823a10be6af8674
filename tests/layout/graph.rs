//! Circles in a graph of imports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// The edges of a directed graph, by their two nodes, with the path that causes each.
pub(crate) type Edges = BTreeMap<(String, String), String>;

/// Nodes that all depend on each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    /// The nodes, sorted by name.
    pub(crate) nodes: Vec<String>,
    /// The edges of a shortest cycle: each begins where the previous one ends.
    pub(crate) shortest: Vec<(String, String)>,
    /// All edges between the nodes.
    pub(crate) edges: Edges,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "circle among {}:", self.nodes.join(", "))?;
        for edge in &self.shortest {
            writeln!(f, "  {} -> {}  ({})", edge.0, edge.1, self.edges[edge])?;
        }
        let others: Vec<_> = self
            .edges
            .iter()
            .filter(|(edge, _)| !self.shortest.contains(edge))
            .collect();
        if !others.is_empty() {
            writeln!(f, "  other imports among them:")?;
        }
        for ((from, to), path) in others {
            writeln!(f, "  {from} -> {to}  ({path})")?;
        }
        Ok(())
    }
}

/// Finds the circles of a graph: one for each set of nodes that all reach each other.
pub(crate) fn circles(edges: &Edges) -> Vec<Circle> {
    let starts: BTreeSet<&str> = edges.keys().map(|(from, _)| from.as_str()).collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> = starts
        .iter()
        .map(|&start| (start, reachable(edges, start)))
        .collect();
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|nodes| nodes.contains(to));
    let mut found = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for &start in &starts {
        if !reaches(start, start) || seen.contains(start) {
            continue;
        }
        let nodes: BTreeSet<&str> = starts
            .iter()
            .copied()
            .filter(|&node| reaches(start, node) && reaches(node, start))
            .collect();
        seen.extend(&nodes);
        found.push(circle(edges, &nodes));
    }
    found
}

/// Returns the nodes that a node reaches by one edge or more.
fn reachable<'a>(edges: &'a Edges, start: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut pending = vec![start];
    while let Some(node) = pending.pop() {
        for next in successors(edges, node) {
            if reached.insert(next) {
                pending.push(next);
            }
        }
    }
    reached
}

/// Returns the nodes at the other ends of a node's edges.
fn successors<'a>(edges: &'a Edges, node: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let node = node.to_owned();
    edges
        .keys()
        .filter(move |(from, _)| *from == node)
        .map(|(_, to)| to.as_str())
}

/// Describes the circle of nodes that all reach each other.
fn circle(edges: &Edges, nodes: &BTreeSet<&str>) -> Circle {
    let inner: Edges = edges
        .iter()
        .filter(|((from, to), _)| nodes.contains(from.as_str()) && nodes.contains(to.as_str()))
        .map(|(edge, path)| (edge.clone(), path.clone()))
        .collect();
    let shortest = nodes
        .iter()
        .map(|node| way_round(&inner, node))
        .min_by_key(Vec::len)
        .unwrap_or_default();
    Circle {
        nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
        shortest,
        edges: inner,
    }
}

/// Returns the edges of a shortest way from a node back to it.
fn way_round(edges: &Edges, start: &str) -> Vec<(String, String)> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut pending = VecDeque::from([start]);
    while let Some(node) = pending.pop_front() {
        for next in successors(edges, node) {
            if before.contains_key(next) {
                continue;
            }
            before.insert(next, node);
            pending.push_back(next);
        }
    }
    let mut way = Vec::new();
    let mut to = start;
    while let Some(&from) = before.get(to) {
        way.push((from.to_owned(), to.to_owned()));
        to = from;
        if to == start {
            break;
        }
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a graph from edges such as `a>b`.
    fn graph(edges: &[&str]) -> Edges {
        edges
            .iter()
            .map(|edge| {
                let (from, to) = edge.split_once('>').expect("an edge");
                ((from.to_owned(), to.to_owned()), edge.to_string())
            })
            .collect()
    }

    #[test]
    fn finds_no_circle_where_there_is_none() {
        assert_eq!(circles(&graph(&["a>b", "a>c", "b>d", "c>d"])), []);
    }

    #[test]
    fn finds_a_pair() {
        let found = circles(&graph(&["a>b", "b>a", "b>c"]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].nodes, ["a", "b"]);
        assert_eq!(found[0].edges, graph(&["a>b", "b>a"]));
    }

    #[test]
    fn finds_circles_apart_from_each_other() {
        let found = circles(&graph(&["a>b", "b>a", "b>c", "c>d", "d>e", "e>c"]));
        let nodes: Vec<_> = found.iter().map(|circle| circle.nodes.concat()).collect();
        assert_eq!(nodes, ["ab", "cde"]);
    }

    #[test]
    fn names_a_shortest_way_round_and_the_other_edges() {
        let found = circles(&graph(&["a>b", "b>c", "c>d", "d>a", "c>b"]));
        assert_eq!(found.len(), 1);
        let text = found[0].to_string();
        assert_eq!(
            text,
            "circle among a, b, c, d:\n  b -> c  (b>c)\n  c -> b  (c>b)\n  \
             other imports among them:\n  a -> b  (a>b)\n  c -> d  (c>d)\n  d -> a  (d>a)\n"
        );
    }
}
