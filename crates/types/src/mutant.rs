//! Planted bugs: single-line mistakes that the simulator must catch, each where it was once made.
//!
//! The code asks [`planted`] whether a mutant is switched on. Without the feature `mutants` the
//! answer is a constant `false`, and the compiler drops the question. With the feature, a thread
//! plants one mutant at a time (`plant`). Only the simulator's own feature `mutants` turns the
//! feature on, and the binary `flotilla` refuses to be built with it ([`IS_COMPILED_IN`]).
//!
//! A mutant that no seed catches is a hole in the simulator. Each mutant changes something that can
//! be observed: a check that a second check repeats is not listed.
//!
//! Not here: how a mutant is run until it is caught (`flotilla-sim mutants`), nor any seed that
//! catches it.

/// True in a build with the feature `mutants`. No released binary may be one.
pub const IS_COMPILED_IN: bool = cfg!(feature = "mutants");

/// The environment variable that names the mutant to plant while a test runs. Only a build with the
/// feature `mutants` reads it.
#[cfg(feature = "mutants")]
const VARIABLE: &str = "FLOTILLA_PLANTED";

macro_rules! catalogue {
    ($($(#[$why:meta])* $variant:ident $name:literal $what:literal)*) => {
        /// The mistakes. The comment of each names an incident of another system, or the rule that
        /// the mistake breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[$why])* $variant,)*
        }

        impl Mutant {
            /// All mutants, in the order of their declaration.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$variant,)*];

            /// The mutant's name on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Mutant::$variant => $name,)*
                }
            }

            /// The mistake, in words.
            pub fn what(self) -> &'static str {
                match self {
                    $(Mutant::$variant => $what,)*
                }
            }
        }
    };
}

catalogue! {
    /// etcd#14370, tikv#994: acknowledged writes are gone when the power is.
    SkipSync "skip-sync" "the log is written and never synced"
    /// tikv#994: an acknowledgement that the disk does not keep.
    SendBeforeSync "send-before-sync" "messages that wait for the sync leave before it"
    /// The same, one floor higher: the loop does not carry outputs out in their order.
    ThenBeforeSync "then-before-sync" "the loop sends what waits for a sync before that sync"
    /// Ongaro's thesis 10.2.1: a leader may write its log beside sending, and counts itself later.
    SelfBeforeSync "self-before-sync" "a leader of several counts its entries before their sync"
    /// A log that is as long as before need not be the same.
    ReplacedUnsynced "replaced-unsynced" "entries that replace others are not synced"
    /// Ongaro's thesis 3.8: a candidate must remember its vote.
    ForgetVote "forget-vote" "a hard state without entries is not written"
    /// Raft's figure 2: whoever answers remembers the term in which it did.
    ForgetTerm "forget-term" "a new leader's term is not written with its entries"
    /// Raft 5.4.1: a peer whose state a crash took may have voted.
    VoteGoesWithEntries "vote-goes-with-entries" "a peer that begins anew has forgotten its vote"
    /// A lone voter's own vote elects it at once, and a crash takes that vote along.
    LeadUnelected "lead-unelected" "a lone voter leads before its own vote is durable"
    /// The `raft` crate: a configuration counts from its application, which a crash takes back.
    ForgetChange "forget-change" "that a change of members is committed is not written"
    /// etcd 3.5, #13766: the consistent index apart from the data.
    AppliedNotWithRows "applied-not-with-rows" "the applied index becomes durable after its rows"
    /// The same, where a store is asked to stop.
    StopUnsaved "stop-unsaved" "a stop makes rows durable, and not how far they go"
    /// etcd#7470: a log must outlive the state that would be redone from it.
    TruncateUndurable "truncate-undurable" "the log is truncated up to what is not durable"
    /// A read that falls between the two halves of a flush.
    FrozenUnread "frozen-unread" "reads skip the buffer that is being flushed"
    /// tikv `test_split_init_raft_state_recovery`: half a split survives a crash.
    FreezeMidTurn "freeze-mid-turn" "a checkpoint may begin between a split and its right part"

    /// Redis-Raft (Jepsen 2020): an answer before commit is lost with the leader.
    AckAtPropose "ack-at-propose" "a write is acknowledged when it is proposed"
    /// A second answer would be taken for that of another request.
    ReplyTwice "reply-twice" "the loop carries an answer out twice"
    /// The entry has several writes, and each caller its own result.
    ResultsRotated "results-rotated" "an entry's results go to the callers of its next writes"
    /// Whoever asked is told that the outcome is not known; not told anything, it waits.
    OrphansForgotten "orphans-forgotten" "the callers of a lost leadership's writes are dropped"
    /// A leader without a quorum keeps its callers.
    ReadWaitsOn "read-waits-on" "the deadline of a waiting read is not looked at"
    /// Raft 3.6: the same index may hold another leader's entry.
    AckOtherTerm "ack-other-term" "a waiter is answered by another term's entry at its index"
    /// Terms never fall along a log, so an entry decides later positions of earlier terms as well.
    DroppedWaitOn "dropped-wait-on" "only waiters up to an entry's index learn that it dropped them"
    /// The same, with proposals of the entry's own term among the later ones.
    DroppedTooMany "dropped-too-many" "an entry drops later proposals of its own term"
    /// A caller that is answered by nobody waits for as long as its own timer says.
    DeadlineIgnored "deadline-ignored" "a write that waits is not answered by its deadline"
    /// CockroachDB's ambiguous results: what is not known is no failure.
    OrphansFailed "orphans-failed" "a write of a lost leadership is answered as refused"
    /// tikv#4125, #9181: a write routed by an older shape of the region.
    EpochUnchecked "epoch-unchecked" "a write's version is not checked when it is applied"
    /// A compare-and-swap that looks past the batch it stands in.
    SwapReadsPast "swap-reads-past" "a swap does not see the writes before it in its entry"
    /// RocksDB's tombstones: a scan over millions of deleted rows holds up everything else.
    HiddenRowsFree "hidden-rows-free" "a scan walks over deleted rows without counting them"
    /// A page that begins with the last row of the page before it.
    ScanRowTwice "scan-row-twice" "a scan's next chunk begins with the last row once more"
    /// An address that another cluster's servers have now.
    OtherClusterServed "other-cluster-served" "what is asked for another cluster is answered"
    /// A short answer taken for a whole one.
    ScanCutShort "scan-cut-short" "a chunk that ran out of bytes says that it is the last"

    /// Redis-Raft (Jepsen 2020), RethinkDB 2.2.3: whoever believes that it leads answers.
    ReadUnconfirmed "read-unconfirmed" "a leader without a lease reads without asking anybody"
    /// etcd#7331, tikv#6340, redisraft#22: a new leader does not know what is committed.
    ReadBeforeOwnEntry "read-before-own-entry" "a leader reads before it applied its first entry"
    /// tikv#17018: a later read rides on an earlier round.
    ReadOnEarlierRound "read-on-earlier-round" "a round confirms reads that came after it"
    /// tikv#1593: a transfer's target stands for election at once.
    LeaseOverTransfer "lease-over-transfer" "the lease is kept when leadership is handed on"
    /// tikv#964: a lease counts from when the heartbeat was sent, not from when answers arrived.
    LeaseFromNewest "lease-from-newest" "the lease counts from the newest round that was sent"
    /// tikv#964: a lease must end before anybody may be elected.
    LeaseTooLong "lease-too-long" "the lease is as long as the longest election timeout"
    /// tikv#15035: a voter that restarts has forgotten which leader's heartbeats it answered.
    VoteAtOnce "vote-at-once" "a voter that has just restarted votes"
    /// A member that learns a later term forgets the leader that its answers still count for.
    PromiseForgotten "promise-forgotten" "a leader's message does not keep its receiver from voting"
    /// A follower's timer may be a tick older than the message that reset it.
    LeaseTickKept "lease-tick-kept" "a lease does not count the tick that a timer is ahead"
    /// Two clocks that run at rates a tenth apart.
    LeaseDriftKept "lease-drift-kept" "a lease allows for no difference between clocks"
    /// A round is asked for before its messages leave.
    LeaseFromReceipt "lease-from-receipt" "a lease counts from a tick after its round was sent"
    /// The lease rests on followers that turn candidates away.
    QuorumUnchecked "quorum-unchecked" "followers of a live leader vote for others"

    /// The second look of a read under a permit: the lease may end while the state is read.
    PermitLooksOnce "permit-looks-once" "a read under a permit looks at the permit once"
    /// The same, of scans alone: a chunk takes long to read.
    ScanLooksOnce "scan-looks-once" "a scan under a permit looks at the permit once"
    /// The same, where the second look is one at the clock of the first.
    PermitLooksBack "permit-looks-back" "the second look goes by the time of the first"
    /// A permit that leaves the table, while a read that has found it goes on.
    PermitUnmarked "permit-unmarked" "a read under way does not see that its permit is taken back"
    /// A region that was cut has a later permit; a read under the earlier one may ask for any key.
    PermitReplaced "permit-replaced" "a permit that another one replaces is not taken back"
    /// What a turn lets out must find the permit taken back.
    PermitPublishedLate "permit-published-late" "permits change with ticks, not with the turn"
    /// tikv#1593, for reads that no worker sees.
    PermitOverTransfer "permit-over-transfer" "the permit is kept when leadership is handed on"

    /// A quiescent region must elect as soon as an active one.
    MissedTicksLost "missed-ticks-lost" "a follower that becomes active has missed no ticks"
    /// A follower that misses the last entry would miss it for as long as nothing happens.
    RestsBehind "rests-behind" "a follower becomes quiescent that is behind its leader"
    /// CockroachDB's quiescence: a leader that restarted does not know that it led.
    IncarnationIgnored "incarnation-ignored" "another process of a store is taken for the same"
    /// Nothing else keeps a member's timer from running out if the entries are not taken.
    HeartbeatSpared "heartbeat-spared" "a member that does not answer is sent no heartbeat"

    /// A stop that is not waited for is an election for everybody who asks.
    HandOverHalf "hand-over-half" "a store counts leaderships as handed on that it still has"
    /// Regions whose bounds are long: a heartbeat of many is more than its receiver takes.
    ReportsUnweighed "reports-unweighed" "a heartbeat's reports are counted, and not weighed"

    /// Most reads never come to the worker, so what is counted there alone is next to nothing.
    PermitReadsUncounted "permit-reads-uncounted" "a read under a permit is no load of its store"
    /// A region that was busy once would be moved for ever.
    LoadStands "load-stands" "a region whose load was told is not looked at when it is quiescent"

    /// A caller whose answer was as good as there.
    HandOverOwing "hand-over-owing" "a store that is about to stop does not finish what it began"

    /// What waits for the end of a state must be woken by that end.
    HeldBackForgotten "held-back-forgotten" "what was held back stays so when the disk is free"

    /// A machine that wakes up finds its lease still good.
    ClockSleeps "clock-sleeps" "the clock stands still while its machine is suspended"

    /// tikv#10533, #7475: a peer that was removed comes back and votes.
    TombstoneForgotten "tombstone-forgotten" "a message revives a peer that was removed"
    /// tikv#1262: the tombstone that a crash takes along.
    TombstoneUnwritten "tombstone-unwritten" "the tombstone of a removed peer is not written"
    /// tikv#7002: a range is dropped while the next peer fills it.
    TombstoneTooSoon "tombstone-too-soon" "a new peer may begin before a tombstone is durable"
    /// tikv#866, #6366: two regions on a store for one key.
    SnapshotOverlaps "snapshot-overlaps" "a snapshot is taken over another region's rows"
    /// tikv `test_correct_snapshot_term`: a snapshot must be what its index says.
    SnapshotAhead "snapshot-ahead" "a snapshot claims a later index than its rows have"
    /// tikv `test_snapshot_recover_from_raft_write_failure`.
    InstallInTwo "install-in-two" "a snapshot's records become durable before its rows"
    /// A bound on the age of what was not ready yet.
    ViewAges "view-ages" "a view for snapshots ages from the beginning of its checkpoint"
    /// tikv#689: rows of an earlier life under those of a snapshot.
    InstallOverOld "install-over-old" "a snapshot's rows are added to what was there"

    /// pd#1377: an older shape of a region must be recognisable.
    SplitKeepsVersion "split-keeps-version" "a split does not raise the version"
    /// The left part goes on owning what it gave away.
    SplitKeepsRange "split-keeps-range" "the left part of a split keeps its end"
    /// tikv `test_propose_before_split_and_merge`.
    SplitUnchecked "split-unchecked" "a split's epoch is not checked when it is applied"
    /// Two sets of members that no counter tells apart.
    ChangeKeepsConfVer "change-keeps-conf-ver" "a change of members does not raise conf_ver"
    /// tikv `test_cmd_epoch_checker`.
    ChangeUnchecked "change-unchecked" "a change's epoch is not checked when it is applied"

    /// A put that one store holds is acknowledged, and one kill loses it.
    BeginAlone "begin-alone" "the first region begins with one voter"
    /// The only answer that told of it is lost.
    FirstToldOnce "first-told-once" "a store is told of the first region once"
    /// A vote or an entry is counted on that a crash takes along.
    FirstUnheld "first-unheld" "a peer of the first region speaks before it is durable"
    /// What is told again must not be done again.
    FirstTwice "first-twice" "a store that is told again creates the first region again"
    /// A store with an empty directory votes a second time.
    NewStoreAgain "new-store-again" "a store of the first region counts as one that is new"

    /// pd#1661, of timestamps: what was handed out must outlive whoever did it.
    IdsUnsaved "ids-unsaved" "the watermark of ids is not written"
    /// Two regions of one name.
    IdsReused "ids-reused" "a store's next split takes the ids of its last one, in use or not"
    /// A later incarnation must have the greater id.
    IdsOutdated "ids-outdated" "an operator takes ids of a block older than a store's"
    /// A member that was put back from an older copy of its directory knows less than its stores.
    IdsNotRaised "ids-not-raised" "ids are leased whatever ids stores name"
    /// Two regions of one id, of which one ends.
    SplitIdLives "split-id-lives" "the right part of a split takes the place of a region of its id"
    /// pd#1377, #2657: a late report undoes a newer one.
    PdGoesBack "pd-goes-back" "the placement driver admits an older shape of a region"
    /// etcd#14370: stores and ids that were answered for are gone when the power is.
    PdSkipSync "pd-skip-sync" "the placement driver's log is never synced"
    /// etcd#7470: the same in the placement driver's log.
    PdTruncateUndurable "pd-truncate-undurable" "the placement driver's log loses too much"
    /// pd#2657: a leader that was deposed is taken for the leader.
    ReportOlderTerm "report-older-term" "a region's report of an earlier term is taken"
    /// A copy of a heartbeat that arrives late says how a region was, and no later one corrects it.
    OlderHeartbeat "older-heartbeat" "a heartbeat that its store sent before the last one is taken"
    /// A store leads more regions than one heartbeat has room for.
    RestForgotten "rest-forgotten" "leaderships without room in a full heartbeat end"
    /// Two stores that split at once name their halves alike.
    IdsBeforeCommit "ids-before-commit" "a block of ids leaves before its watermark is committed"
    /// A snapshot of a large region takes minutes.
    OperatorImpatient "operator-impatient" "an operator may take as long as a transfer may"
    /// Each peer that is added is a snapshot to receive.
    AdditionsUnbounded "additions-unbounded" "any number of peers is added to a store at once"
    /// The two stores swap the leader for ever.
    LeadersSwapped "leaders-swapped" "a difference of one leader between two stores is evened out"
    /// The same with a peer, which costs a snapshot each time.
    RegionsSwapped "regions-swapped" "a difference of one region between two stores is evened out"
    /// A store that joins receives more than it should hold, and gives it back.
    MovesUncounted "moves-uncounted" "moves under way do not count when stores are evened out"
    /// A store that is emptied is filled at the same time.
    BalanceOntoAny "balance-onto-any" "stores that drain or are down take part in balancing"
    /// A voter behind a cut link is removed, and it was one of the two that were left.
    SilenceIsLoss "silence-is-loss" "a voter that its leader does not hear counts as lost"
    /// The region is one voter short until the replacement is there, and another may fail.
    RemoveUnreplaced "remove-unreplaced" "a voter that is to be replaced is removed first"
    /// Between the two changes the region is one voter short.
    ReplaceInTwo "replace-in-two" "a voter loses its vote before its replacement has one"
    /// The store was only restarted, and its voter is as good as any.
    RegretIgnored "regret-ignored" "a voter whose store is back is replaced all the same"

    /// etcd#18424, tikv#13573, TiDB 2.1 (Jepsen 2019): a retry that happens twice.
    RetryBlindly "retry-blindly" "a client repeats a write whose outcome is not known"
    /// A swap that took effect, sent again, finds its own value and says that it failed.
    SwapRepeated "swap-repeated" "a one-key call repeats a swap whose outcome is not known"
    /// A stream breaks with requests on it that the store has carried out.
    LostIsRefused "lost-is-refused" "a request on a connection that broke counts as never sent"
    /// A follower is paused while its snapshot is under way, for as long as nobody says otherwise.
    FailedSnapshotUntold "failed-snapshot-untold" "a snapshot that failed is not reported"
    /// A region that its leader leaves alone without a word asks for votes, again and again.
    QuiesceUntold "quiesce-untold" "a leader becomes quiescent and tells nobody"
    /// Heartbeats ten times as often as needed, from every store, for ever.
    BusyForever "busy-forever" "the placement driver always asks for the next heartbeat soon"
    /// Twice the time without a leader after each that is lost.
    TimeoutTooLong "timeout-too-long" "election timeouts are twice as long as they are to be"
    /// The group is at the configuration of a snapshot that it has yet to hand out.
    HeldBackOverSnapshot "held-back-over-snapshot" "what was held back is applied over a snapshot"
    /// A deposed leader must not answer: what it knows may be old.
    PdUnconfirmed "pd-unconfirmed" "the placement driver answers without confirming that it leads"
    /// A member that installed a snapshot must go on from it.
    PdSnapshotUnread "pd-snapshot-unread" "a member of PD keeps its old state beside a snapshot"
    /// The members in a snapshot must be those at its position.
    PdSnapshotMembersLate "pd-snapshot-members-late" "a snapshot of PD has members of a later entry"
    /// A new process does not know what the old one of its id has voted for.
    PdRemovedReturns "pd-removed-returns" "the id of a member of PD that was removed is given again"
    /// What a removed member says must count for nothing.
    PdRemovedHeard "pd-removed-heard" "a member of PD that was removed is listened to"
    /// Those that are left must be a majority that is heard.
    PdQuorumRemoved "pd-quorum-removed" "a member of PD is removed without a look at the others"
    /// A voter that has nothing makes the next failure the last.
    PdPromotedEarly "pd-promoted-early" "a member of PD votes before it has caught up"
    /// A directory that was lost takes its member's votes with it.
    PdStrangerVotes "pd-stranger-votes" "a member of PD votes although its directory is another one"
    /// A quiescent peer that missed its removal trusts its leader's store for ever.
    QuiescentUnasked "quiescent-unasked" "quiescent peers do not ask whether they were removed"
    /// Without its book, a store that starts while the placement driver is away reaches nobody.
    AddressesUnsaved "addresses-unsaved" "the addresses of stores are not kept on disk"
    /// The members that a store was configured with are replaced one after the other.
    PdAddrsUnsaved "pd-addrs-unsaved" "what a store learned of PD's members is not kept on disk"
    /// The members of the placement driver that an endpoint begins with may all be gone.
    PdOthersUnasked "pd-others-unasked" "a caller asks no member but the one it takes for leader"
    /// A store that joined is answered only by those that know its address.
    AddressesLate "addresses-late" "addresses of stores are learned only beside commands"
    /// A route that leads astray still leads to stores that know more than nobody.
    RouteDropped "route-dropped" "a client drops a route that led astray before it has another"
    /// A store that is behind answers as readily as any other.
    OlderHintWins "older-hint-wins" "a client takes over an older route from a store that it asks"
    /// The keys behind the split have no route then, and the placement driver may be away.
    RightPartUntold "right-part-untold" "a store that tells of a split names the left part only"
    /// tikv client-go's region cache: an answer that tells of newer regions must replace the old.
    StaleRouteKept "stale-route-kept" "a client keeps a route that a store has called stale"
    /// FoundationDB's `commit_unknown_result`.
    UnknownIsFailure "unknown-is-failure" "a client reports a write of unknown outcome as failed"
    /// A range that ends in another region than it begins in.
    DeleteRangeShort "delete-range-short" "a deleted range ends where its first region ends"
    /// TiDB 2.1: rows that are missing from an answer said to be whole.
    ScanEndsAtBorder "scan-ends-at-border" "a scan is done at the end of its first region"

    /// A key that is absent is not a key whose value has no bytes.
    AbsentReadsEmpty "absent-reads-empty" "a get of one absent key answers an empty value"
    /// A retry storm: half the cluster is gone, and every caller asks again at once.
    BudgetEndless "budget-endless" "a retry takes no token from the client's budget"
    /// A region of which the client never asks again.
    RefreshNeverEnds "refresh-never-ends" "a refresh that has ended counts as under way"
    /// A store that is behind leads its callers back.
    OlderRouteWins "older-route-wins" "the router takes an older shape of a region over"
    /// An answer that comes when nobody waits any more leaves the outcome unknown.
    NoMargin "no-margin" "a store is told all the time that its caller has"
    /// A store that is called lost runs on, and uses ids that are given out again.
    LostWhileHeard "lost-while-heard" "a store that was heard just now may be removed as lost"
    /// A placement driver that waits for a store says nothing, and nothing is repaired.
    IdsAwaitedUntold "ids-awaited-untold" "the status does not say which stores ids are awaited of"
    /// What people and scripts wait for before they take the next store down.
    HealthyTooSoon "healthy-too-soon" "a region that lacks one voter counts as healthy"
    /// A store that was killed a moment ago holds voters that do not vote.
    StatusForgetsSilent "status-forgets-silent" "a store that was heard once counts as heard"
    /// A voter that has just come back lacks what was written meanwhile.
    LaggingUnseen "lagging-unseen" "a voter that lags counts as caught up"
    /// A store that is being restarted is not there.
    StopUnheard "stop-unheard" "a store that says that it stops counts as heard"
    /// A store that was removed may hold votes and rows of long ago.
    RemovedReturns "removed-returns" "a store that was removed may register again"
    /// An administrator takes a store away that holds the last copies.
    RemovedInUse "removed-in-use" "a store that holds peers and lives may be removed"
    /// An operator that goes on although it is cancelled.
    CancelIdle "cancel-idle" "a cancelled operator stays under way"
    /// A caller that goes on from the last page's end misses what the page leaves out.
    PageCutShort "page-cut-short" "a page of regions has one region less than it may"
    /// A bound that counts only what has left already bounds nothing.
    QueueUncounted "queue-uncounted" "bytes of queued writes are not counted"
    /// A bound that is off by one.
    ReadsOneMore "reads-one-more" "one more read waits than may"
    /// Votes for regions that are never created here.
    KeptVotesUnbounded "kept-votes-unbounded" "votes for regions to come are never dropped"
    /// Every sender is remembered.
    NonMembersUnbounded "non-members-unbounded" "peers outside a region are never forgotten"
    /// Rounds that no quorum will confirm.
    RoundsUnbounded "rounds-unbounded" "rounds without an answer are never forgotten"
    /// etcd#10123: a leader that is cut off goes on taking proposals.
    UncommittedUnbounded "uncommitted-unbounded" "a leader takes any number of proposals"
    /// raft 0.7: a change that a full log refuses counts as pending until another entry is applied.
    RefusedChangePends "refused-change-pends" "a refused change of members keeps others away"
    /// Entries in memory pin the messages that brought them.
    CacheUnbounded "cache-unbounded" "applied entries stay in memory until all followers have them"
    /// Samples are dropped once for each step, however many the step has taken.
    SamplesUnbounded "samples-unbounded" "a count drops no samples"
    /// A walk that goes on where it began.
    CountRestarts "count-restarts" "each step of a count begins at the region's start"
    /// A chunk is closed before the row that does not fit.
    ChunkOutweighs "chunk-outweighs" "a chunk of a scan takes one row more than fits"
    /// The row at which a chunk is closed belongs to the next chunk.
    ChunkDropsRow "chunk-drops-row" "a row that does not fit a chunk is left out of the scan"
    /// The write that did not fit opens the next entry.
    FullEntryDropsWrite "full-entry-drops-write" "the write after a full entry is lost"
    /// What had no room in a heartbeat must be in a later one.
    CutOffReported "cut-off-reported" "a report without room in a heartbeat counts as sent"
    /// A threshold that a smaller block never reaches.
    IdsLowFixed "ids-low-fixed" "a block of ids counts as used up at a number of its own"
    /// A page that is larger than the cache.
    PageDrivesOut "page-drives-out" "a page's last regions drive out the one that was asked for"
}

#[cfg(feature = "mutants")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutant>> = std::cell::Cell::new(from_environment());
}

/// The mutant that is planted in each thread at first, for tests that know nothing of mutants.
#[cfg(feature = "mutants")]
fn from_environment() -> Option<Mutant> {
    let named = std::env::var(VARIABLE).ok()?;
    let mutant = Mutant::ALL.iter().copied().find(|mutant| mutant.name() == named);
    assert!(mutant.is_some(), "{VARIABLE}={named} names no mutant");
    mutant
}

/// Plants a mutant in this thread, or none.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

/// True if this mistake is to be made now, in this thread.
#[cfg(feature = "mutants")]
pub fn planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

/// True if this mistake is to be made now: never, in this build.
#[cfg(not(feature = "mutants"))]
pub const fn planted(_: Mutant) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_mutant_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn nothing_is_planted_without_the_feature() {
        const IS_WRONG: bool = planted(Mutant::SkipSync);
        const { assert!(!IS_WRONG && !IS_COMPILED_IN) };
        assert!(!Mutant::ALL.iter().any(|mutant| planted(*mutant)));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn one_mutant_is_planted_at_a_time() {
        plant(Some(Mutant::SkipSync));
        assert!(planted(Mutant::SkipSync) && !planted(Mutant::AckAtPropose));
        plant(None);
        assert!(!planted(Mutant::SkipSync));
    }
}
