//! What a swap would throw away, and whether whoever asked for it has named it. Pure.
//!
//! A version that no longer declares a state leaves its values behind, one that gives it another name begins anew:
//! both look like a swap that went well, so neither happens unless it was said.

use super::super::plan::{Fate, PlannedState, Refusal};
use super::super::spec::nearest;
use crate::wasm::contract::Description;

/// What may be lost, as the caller names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// States that begin empty beside ones that are dropped, or whose values nobody can migrate.
    pub reset: Vec<String>,
    /// States and timers that the new version no longer declares.
    pub drop: Vec<String>,
}

impl Accepted {
    /// Accepts every loss that these descriptions can cause.
    pub fn all(old: &Description, new: &Description, states: &[PlannedState]) -> Self {
        let of = |fate: Fate| states.iter().filter(move |state| state.fate == fate).map(|state| state.state.clone());
        let drop = of(Fate::Orphan).chain(gone_timers(old, new).map(str::to_owned));
        Self { reset: of(Fate::Reset).collect(), drop: drop.collect() }
    }
}

/// The same states, where those that were named begin empty in place of being stuck.
pub fn with_resets(mut states: Vec<PlannedState>, accepted: &Accepted) -> Vec<PlannedState> {
    let is_named = |state: &PlannedState| accepted.reset.contains(&state.state);
    for state in states.iter_mut().filter(|state| matches!(state.fate, Fate::Stuck(_)) && is_named(state)) {
        state.fate = Fate::Emptied;
    }
    states
}

fn gone_timers<'a>(old: &'a Description, new: &'a Description) -> impl Iterator<Item = &'a str> {
    let timers = old.timers.iter().filter(|timer| !new.timers.iter().any(|kept| kept.name == timer.name));
    timers.map(|timer| timer.name.as_str())
}

/// Everything that stands against bringing `new` in place of `old` at `operator`.
pub fn refusals(
    operator: &str,
    old: &Description,
    new: &Description,
    states: &[PlannedState],
    accepted: &Accepted,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |what: String, found: String, remedy: String| {
        refusals.push(Refusal { place: format!("operators[{operator}]{what}"), found, remedy });
    };
    let drops = |name: &str| accepted.drop.iter().any(|dropped| dropped == name);
    let loses = states.iter().any(|state| state.fate == Fate::Orphan);
    for PlannedState { state, fate, from_version, to_version, .. } in states {
        match fate {
            Fate::Stuck(why) => {
                let found = format!("version {from_version} cannot become version {to_version}");
                refuse(
                    format!(" state {state}"),
                    found,
                    format!("{why}, or say that it begins empty: --reset {state}"),
                );
            }
            Fate::Refuse(why) => {
                let found = format!("version {from_version} cannot become version {to_version}");
                refuse(format!(" state {state}"), found, why.clone());
            }
            Fate::Orphan if !drops(state) => refuse(
                format!(" state {state}"),
                "the new version no longer declares it: its values would be left behind".to_owned(),
                format!("keep its name in the module, or say that it goes: --drop {state}"),
            ),
            Fate::Reset if loses && !accepted.reset.contains(state) => refuse(
                format!(" state {state}"),
                "it begins empty while another state is left behind: a state that was renamed loses its values"
                    .to_owned(),
                format!("give it the name that it had, or say that it begins empty: --reset {state}"),
            ),
            Fate::Keep | Fate::Migrate { .. } | Fate::Reset | Fate::Emptied | Fate::Orphan => {}
        }
    }
    for timer in gone_timers(old, new).filter(|timer| !drops(timer)) {
        refuse(
            format!(" timer {timer}"),
            "the new version no longer declares it: those that are set would never fire".to_owned(),
            format!("keep its name in the module, or say that it goes: --drop {timer}"),
        );
    }
    if old.keyed != new.keyed {
        let say = |keyed| if keyed { "keeps state per key" } else { "keeps none" };
        let found = format!("the running module {}, the new one {}", say(old.keyed), say(new.keyed));
        refuse(String::new(), found, "deploy another job with it".to_owned());
    }
    refusals.extend(unknown(operator, old, new, states, accepted));
    refusals
}

/// States and timers that the caller named but that do not exist or are not lost: most likely a typing error.
fn unknown(
    operator: &str,
    old: &Description,
    new: &Description,
    states: &[PlannedState],
    accepted: &Accepted,
) -> Vec<Refusal> {
    let lost = |fate: Fate| states.iter().filter(move |state| state.fate == fate).map(|state| state.state.as_str());
    let stuck = states.iter().filter(|state| matches!(state.fate, Fate::Stuck(_))).map(|state| state.state.as_str());
    let resettable: Vec<&str> = lost(Fate::Reset).chain(lost(Fate::Emptied)).chain(stuck).collect();
    let droppable: Vec<&str> = lost(Fate::Orphan).chain(gone_timers(old, new)).collect();
    let mut refusals = Vec::new();
    for (flag, named, known, does) in [
        ("--reset", &accepted.reset, &resettable, "begins empty"),
        ("--drop", &accepted.drop, &droppable, "is dropped"),
    ] {
        for name in named.iter().filter(|name| !known.contains(&name.as_str())) {
            let remedy = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None if known.is_empty() => "leave it out".to_owned(),
                None => format!("there is: {}", known.join(", ")),
            };
            let found = format!("nothing of that name {does} by this swap");
            refusals.push(Refusal { place: format!("operators[{operator}] {flag} {name}"), found, remedy });
        }
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::super::super::fakes::{description, state};
    use super::super::super::plan::compare_states;
    use super::*;

    fn judge(old: &Description, new: &Description, reset: &[&str], drop: &[&str]) -> Vec<String> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let accepted = Accepted { reset: names(reset), drop: names(drop) };
        let states = with_resets(compare_states("count", &old.states, &new.states), &accepted);
        refusals("count", old, new, &states, &accepted).iter().map(|refusal| refusal.place.clone()).collect()
    }

    #[test]
    fn a_state_that_was_renamed_goes_only_where_both_names_are_given() {
        let old = description("1", 1, &[], &[]);
        let mut new = description("2", 2, &[], &[]);
        new.states[0].name = "sums".to_owned();
        let (gone, begun) = ("operators[count] state tally".to_owned(), "operators[count] state sums".to_owned());
        assert_eq!(judge(&old, &new, &[], &[]), [begun.clone(), gone.clone()]);
        assert_eq!(judge(&old, &new, &[], &["tally"]), [begun]);
        assert_eq!(judge(&old, &new, &["sums"], &[]), [gone]);
        assert!(judge(&old, &new, &["sums"], &["tally"]).is_empty());
    }

    #[test]
    fn a_state_that_comes_in_addition_takes_nothing_away() {
        let old = description("1", 1, &[], &[]);
        let mut new = description("2", 1, &[], &[]);
        new.states.push(state("more", 1, &[], &[], "f"));
        assert!(judge(&old, &new, &[], &[]).is_empty());
        assert!(judge(&old, &new, &["more"], &[]).is_empty());
    }

    #[test]
    fn a_timer_that_nobody_declares_any_more_is_named_or_refused() {
        let mut old = description("1", 1, &[], &[]);
        old.timers = vec![crate::wasm::contract::TimerDecl { name: "flush".to_owned() }];
        let new = description("2", 1, &[], &[]);
        assert_eq!(judge(&old, &new, &[], &[]), ["operators[count] timer flush"]);
        assert!(judge(&old, &new, &[], &["flush"]).is_empty());
    }

    #[test]
    fn a_name_that_loses_nothing_is_pointed_out() {
        let old = description("1", 1, &[], &[]);
        let mut new = description("2", 1, &[], &[]);
        new.states.clear();
        let found = judge(&old, &new, &[], &["taly"]);
        assert_eq!(found, ["operators[count] state tally", "operators[count] --drop taly"]);
    }

    #[test]
    fn a_state_that_nobody_can_migrate_begins_empty_where_it_is_named() {
        let (old, new) = (description("1", 1, &[], &[]), description("3", 3, &[], &[]));
        assert_eq!(judge(&old, &new, &[], &[]), ["operators[count] state tally"]);
        assert!(judge(&old, &new, &["tally"], &[]).is_empty());
        assert_eq!(
            judge(&old, &new, &["taly"], &[]),
            ["operators[count] state tally", "operators[count] --reset taly"],
            "a slip of the pen resets nothing"
        );
        let states = compare_states("count", &old.states, &new.states);
        let refused = refusals("count", &old, &new, &states, &Accepted::default());
        assert!(refused[0].remedy.ends_with("say that it begins empty: --reset tally"), "{refused:?}");
        // What can be migrated is never thrown away.
        let able = description("2", 2, &[1], &[1]);
        assert_eq!(judge(&old, &able, &["tally"], &[]), ["operators[count] --reset tally"]);
        // Values of one version and two types cannot be told apart.
        let mut changed = description("2", 1, &[], &[]);
        changed.states[0].fingerprint = "other".to_owned();
        assert_eq!(judge(&old, &changed, &["tally"], &[])[0], "operators[count] state tally");
    }
}
