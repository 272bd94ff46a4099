use crate::script::{Command, Runner};
use crate::world::World;
use flotilla_types::StoreId;
use flotilla_group::Dice;
fn pick(d:&mut Dice,n:u64)->u64{d.between(0,n)}
#[test]
fn fuzz() {
    let from: u64 = std::env::var("FUZZ_FROM").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let count: u64 = std::env::var("FUZZ_COUNT").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut bad = 0;
    for seed in from..from+count {
        let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
        let l2 = log.clone();
        let r = std::panic::catch_unwind(move || one(seed, l2));
        if let Err(e) = r {
            let msg = e.downcast_ref::<String>().cloned().or(e.downcast_ref::<&str>().map(|s|s.to_string())).unwrap_or_default();
            println!("SEED {seed} FAILED: {msg}");
            if std::env::var("FUZZ_SHOW").is_ok() { for l in log.lock().unwrap_or_else(|e|e.into_inner()).iter() { println!("{l}"); } }
            bad += 1;
        }
    }
    assert_eq!(bad, 0);
}
fn one(seed:u64, log: std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let mut w = World::default();
    let mut d = Dice::new(seed);
    let mut next = 100_000u64; let mut val = 0u64;
    let mut run = |w:&mut World, c:String| {
        log.lock().unwrap_or_else(|e|e.into_inner()).push(format!("> {c}"));
        let mut out = vec![];
        w.run(&Command::parse(&c), &mut out);
        let fatal = out.iter().any(|l| l.contains(" stops: "));
        let dns = out.iter().any(|l| l.contains("does not start"));
        log.lock().unwrap_or_else(|e|e.into_inner()).extend(out.clone());
        assert!(!fatal && !dns, "{out:?}");
    };
    run(&mut w, "stores 4".into()); run(&mut w, "bootstrap s1 s2 s3".into()); run(&mut w, "tick 14".into());
    if std::env::var("FUZZ_SHOW").is_ok() { run(&mut w, "trace on".into()); }
    for _ in 0..120 {
        let s = 1 + pick(&mut d,4);
        let up = w.store(StoreId(s)).worker.is_some();
        let regions: Vec<(u64,bool)> = w.store(StoreId(s)).worker.as_ref().map_or(vec![], |k| k.regions().map(|r| (r.id.0, k.peer(r.id).is_some_and(|p| p.is_leader()))).collect());
        let led: Vec<u64> = regions.iter().filter(|(_,l)| *l).map(|(i,_)| *i).collect();
        let key = (b'a' + pick(&mut d,26) as u8) as char;
        let c = match pick(&mut d,30) {
            0..=7 => { val+=1; if up && !led.is_empty() { let k=key; if d.roll().is_multiple_of(3) { format!("cas s{s} {k} {} {val}", val.saturating_sub(3)) } else { format!("put s{s} {k} {val}") } } else { "tick 1".into() } }
            8 if !led.is_empty() => { let r = led[pick(&mut d,led.len() as u64) as usize]; format!("split s{s} at={key} region={r}") }
            9 if !led.is_empty() => { let r = led[pick(&mut d,led.len() as u64) as usize]; let t=1+pick(&mut d,4); next+=1; format!("add-learner s{s} s{t}/{next} region={r}") }
            10|11|12 if !led.is_empty() => { let r = led[pick(&mut d,led.len() as u64) as usize];
                let reg = w.region(StoreId(s), flotilla_types::RegionId(r)).expect("led"); let p = reg.peers[pick(&mut d, reg.peers.len() as u64) as usize].id.0;
                match pick(&mut d,3) {0=>format!("promote s{s} {p} region={r}"),1 if reg.peers.len()>2=>format!("remove s{s} {p} region={r}"),_=>format!("transfer s{s} {p} region={r}")} }
            13 => format!("isolate s{s}"),
            14 => "heal".into(),
            15 if up => format!("crash s{s}"),
            16|17|18|19 if !up => format!("restart s{s}"),
            20 => { let t=1+pick(&mut d,4); let k=["","Snapshot","Append","Vote","PreVote","HeartbeatReply"][pick(&mut d,6) as usize]; format!("hold s{s}->s{t} {k}") }
            21|22 => "release".into(),
            23 if up => format!("hold-log s{s}"),
            24 => format!("release-log s{s}"),
            25 if up => format!("hold-checkpoints s{s}"),
            26 if up => if pick(&mut d,4)==0 {format!("checkpoint s{s} crash")} else {format!("checkpoint s{s}")},
            27 => if pick(&mut d,2)==0 { format!("pause s{s}") } else {"resume".into()},
            28 if up => format!("tick {} s{s}", 1+pick(&mut d,10)),
            _ => format!("tick {}", 1+pick(&mut d,6)),
        };
        run(&mut w, c);
    }
    for c in ["release","resume","heal"] { run(&mut w, c.into()); }
    for s in 1..=4 { if w.store(StoreId(s)).worker.is_none() { run(&mut w, format!("restart s{s}")); } run(&mut w, format!("release-log s{s}")); run(&mut w, format!("checkpoint s{s}")); }
    run(&mut w, "tick 60".into());
    run(&mut w, "regions".into()); run(&mut w, "dump".into());
}
