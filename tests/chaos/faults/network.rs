//! Links that are cut, slow, reset, or lose what they are sent.

use std::num::NonZeroU64;

use flotilla_proxy::Rules;
use tokio::time::{Instant, sleep};

use super::{Case, Ended, Fault};
use crate::links::{CLIENT, Pair, between, one_way};

/// Lays the fault's rules on links, waits, and lifts them.
pub async fn lay(case: &mut Case<'_>) -> Ended {
    let (what, rules) = rules(case);
    let links = &case.cluster.links;
    let before = links.impeded(&rules);
    case.note(&what);
    links.lay(case.number, &rules);
    sleep(case.time(1_500, 6_000)).await;
    let met = links.impeded(&rules) - before;
    links.lift(case.number);
    told(met)
}

/// Resets the connections of a store again and again.
pub async fn reset(case: &mut Case<'_>) -> Ended {
    let victim = case.some(case.cluster.store_names(), 1);
    let rules = between(&victim, &everybody(case), Rules::default());
    let links = &case.cluster.links;
    let before = links.impeded(&rules);
    case.note(&format!("connections of {} are reset", victim.concat()));
    let end = Instant::now() + case.time(1_000, 5_000);
    while Instant::now() < end {
        for ((from, to), _) in &rules {
            if let Some(link) = links.mesh().link(from, to) {
                link.reset();
            }
        }
        sleep(case.time(50, 700)).await;
    }
    told(links.impeded(&rules) - before)
}

fn told(met: u64) -> Ended {
    if met > 0 {
        Ended::Seen(format!("{met} pieces of streams met it"))
    } else {
        Ended::Unseen("no stream met it".into())
    }
}

/// All names that have links.
fn everybody(case: &Case<'_>) -> Vec<String> {
    [servers(case), vec![CLIENT.to_string()]].concat()
}

fn servers(case: &Case<'_>) -> Vec<String> {
    [case.cluster.pd_names(), case.cluster.store_names()].concat()
}

/// What the fault is in words, and the rules of each of its links.
fn rules(case: &mut Case<'_>) -> (String, Vec<(Pair, Rules)>) {
    match case.fault {
        Fault::CutOneWay => cut_one_way(case),
        Fault::CutMinority => cut_minority(case),
        Fault::CutRing => cut_ring(case),
        Fault::CutClients => {
            let count = case.dice.between(1, 7) as usize;
            let names = case.some(servers(case), count);
            let what = format!("clients do not reach {}", names.join(", "));
            (what, between(&[CLIENT.to_string()], &names, Rules::cut()))
        }
        Fault::Delay => {
            let delay = case.time(20, 400);
            let (what, rules) = victims(case, Rules::delayed(delay));
            (format!("{delay:?} later: {what}"), rules)
        }
        Fault::Throttle => {
            let rate = NonZeroU64::MIN.saturating_add(case.dice.between(5_000, 100_000));
            let (what, rules) = victims(case, Rules::throttled(rate));
            (format!("{rate} bytes/s: {what}"), rules)
        }
        Fault::BlackHole => {
            let victim = case.some(case.cluster.store_names(), 1);
            let rules = between(&victim, &everybody(case), Rules::black_hole());
            (format!("links of {} lose everything", victim.concat()), rules)
        }
        _ => {
            let apart = case.some(case.cluster.store_names(), 3);
            let rules = between(&apart, &servers(case), Rules::cut());
            (format!("each apart from all servers: {}", apart.join(", ")), rules)
        }
    }
}

/// These rules on the links of one store, or on all.
fn victims(case: &mut Case<'_>, rules: Rules) -> (String, Vec<(Pair, Rules)>) {
    let all = everybody(case);
    if case.dice.chance(400) {
        return ("all links".into(), between(&all, &all, rules));
    }
    let victim = case.some(case.cluster.store_names(), 1);
    (format!("links of {}", victim.concat()), between(&victim, &all, rules))
}

fn cut_one_way(case: &mut Case<'_>) -> (String, Vec<(Pair, Rules)>) {
    let victim = case.some(case.cluster.store_names(), 1).concat();
    let mut others = servers(case);
    others.retain(|name| *name != victim);
    let count = case.dice.between_inclusive(1, others.len() as u64) as usize;
    let others = case.some(others, count);
    let is_outward = case.dice.chance(500);
    let pairs = others.iter().flat_map(|other| match is_outward {
        true => one_way(&victim, other),
        false => one_way(other, &victim),
    });
    let rules = pairs.collect();
    let names = others.join(", ");
    let what = match is_outward {
        true => format!("what {victim} sends does not reach {names}"),
        false => format!("{victim} does not hear {names}"),
    };
    (what, rules)
}

fn cut_minority(case: &mut Case<'_>) -> (String, Vec<(Pair, Rules)>) {
    let count = case.dice.between_inclusive(1, 2) as usize;
    let mut minority = case.some(case.cluster.store_names(), count);
    if case.dice.chance(500) {
        minority.extend(case.some(case.cluster.pd_names(), 1));
    }
    let mut majority = servers(case);
    majority.retain(|name| !minority.contains(name));
    if case.dice.chance(500) {
        majority.push(CLIENT.to_string());
    }
    let what = format!("{} apart from {}", minority.join(", "), majority.join(", "));
    let rules = between(&minority, &majority, Rules::cut());
    (what, rules)
}

fn cut_ring(case: &mut Case<'_>) -> (String, Vec<(Pair, Rules)>) {
    let count = case.cluster.store_names().len();
    let ring = case.some(case.cluster.store_names(), count);
    let mut rules = vec![];
    for (at, store) in ring.iter().enumerate() {
        // Neither the store itself nor its neighbours.
        let far = (2..count.saturating_sub(1)).filter_map(|step| ring.get((at + step) % count));
        let far: Vec<String> = far.cloned().collect();
        rules.extend(between(std::slice::from_ref(store), &far, Rules::cut()));
    }
    (format!("each reaches its neighbours: {}", ring.join(", ")), rules)
}
