//! What all models have in common: how they are walked, and what every model must show.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model};

/// Walks all states that can be reached; no property may fail, and a good end must stay within reach of each state.
///
/// The library's own "eventually" overlooks ends that lie behind a circle, so the way back from the ends is walked here.
pub fn assert_holds<M>(model: M, is_end: fn(&M::State) -> bool) -> usize
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + Eq + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let states = {
        let checker = model.clone().checker().threads(2).spawn_bfs().join();
        checker.assert_properties();
        checker.unique_state_count()
    };
    let dead_ends = dead_ends(&model, is_end);
    assert!(dead_ends.is_empty(), "no good end can be reached from {:#?}", dead_ends.first());
    states
}

/// Walks until the property fails, and tells the shortest way there: one thread, so that it is.
pub fn counterexample<M>(model: M, property: &'static str) -> Vec<String>
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let found = HasDiscoveries::AllOf(BTreeSet::from([property]));
    let checker = model.checker().finish_when(found).spawn_bfs().join();
    let path = checker.discovery(property).unwrap_or_else(|| {
        panic!("{property:?} holds in all {} states: the model does not see the fault", checker.unique_state_count())
    });
    path.into_actions().iter().map(|action| format!("{action:?}")).collect()
}

/// The states from which no good end can be reached.
fn dead_ends<M>(model: &M, is_end: fn(&M::State) -> bool) -> Vec<M::State>
where
    M: Model,
    M::State: Clone + Hash + Eq,
{
    let mut numbers: HashMap<M::State, usize> = HashMap::new();
    let mut before: Vec<Vec<usize>> = Vec::new();
    let mut states: Vec<M::State> = Vec::new();
    let mut enter = |state: M::State, states: &mut Vec<M::State>, before: &mut Vec<Vec<usize>>| {
        *numbers.entry(state).or_insert_with_key(|state| {
            states.push(state.clone());
            before.push(Vec::new());
            states.len() - 1
        })
    };
    for state in model.init_states() {
        enter(state, &mut states, &mut before);
    }
    let mut next = 0;
    while next < states.len() {
        for after in model.next_states(&states[next]) {
            let number = enter(after, &mut states, &mut before);
            before[number].push(next);
        }
        next += 1;
    }
    let mut reached: Vec<bool> = states.iter().map(is_end).collect();
    let mut ends: Vec<usize> = (0..states.len()).filter(|&number| reached[number]).collect();
    while let Some(end) = ends.pop() {
        for &number in &before[end] {
            if !std::mem::replace(&mut reached[number], true) {
                ends.push(number);
            }
        }
    }
    states.into_iter().zip(reached).filter(|(_, reached)| !reached).map(|(state, _)| state).collect()
}
