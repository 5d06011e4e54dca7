//! One suite over the contract that async-channel and the model channel share, run on both; and
//! channels that are broken on purpose, each of which the suite finds out.

mod broken;
mod cases;
mod contract;

use std::time::Duration;

use contract::Contract;
use selvedge_testkit::watchdog;

/// No case waits for time: who is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A case of the suite: its name, and what it runs.
type Case = (&'static str, fn());

/// Makes each case a test of both channels, and a row of a table for any other.
macro_rules! suite {
    ($($case:ident)*) => {
        mod model_channel {
            $(#[test]
            fn $case() {
                super::run((stringify!($case), super::cases::$case::<super::contract::Model>));
            })*
        }

        mod async_channel {
            $(#[test]
            fn $case() {
                super::run((stringify!($case), super::cases::$case::<super::contract::Async>));
            })*
        }

        /// Every case, for a channel of the caller's choice.
        fn suite<C: Contract>() -> Vec<Case> {
            vec![$((stringify!($case), cases::$case::<C> as fn())),*]
        }
    };
}

/// Runs a case; one that hangs fails.
fn run((name, case): Case) {
    watchdog(PATIENCE, name, case);
}

suite! {
    items_of_one_sender_arrive_in_order
    an_item_that_waited_to_be_sent_arrives_behind_those_before_it
    both_ends_tell_the_same
    clones_are_counted
    a_full_channel_refuses_and_gives_the_item_back
    an_empty_channel_says_that_it_is_empty
    an_unbounded_channel_is_never_full
    a_capacity_of_zero_panics
    a_closed_channel_refuses_and_gives_the_item_back
    only_the_first_close_says_that_it_closed
    items_left_after_a_close_are_received_and_then_none
    a_close_wakes_every_waiting_receiver
    a_close_wakes_every_waiting_sender_and_gives_the_items_back
    an_end_that_is_not_the_last_closes_nothing_when_it_is_dropped
    a_waiting_sender_is_woken_when_an_item_is_taken
    a_waiting_receiver_is_woken_when_an_item_is_sent
    of_three_that_wait_the_third_is_served_before_the_second
    a_running_caller_may_overtake_a_woken_one
    one_that_is_overtaken_is_served_later
    a_future_that_is_never_polled_does_nothing
    a_dropped_send_sends_nothing_and_drops_its_item
    a_dropped_receive_takes_nothing
    a_sender_woken_and_dropped_wakes_the_next
    a_receiver_woken_and_dropped_wakes_the_next
    items_that_nobody_received_are_dropped_once
    each_item_arrives_once_across_threads
    no_item_is_lost_when_receives_are_dropped_across_threads
}
