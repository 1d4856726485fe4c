"""Which tests of the blocking client are not run through the awaitable face, and why."""

from __future__ import annotations

from typing import Dict

_RAW = "it asks the server by raw HTTP and makes no call of the client"
_CLASSES = "it looks at classes and their signatures, which a test of the two faces' signatures compares"
_PROCESS = "it starts an interpreter of its own, whose end is the matter; the awaitable face has such a test of its own"
_FORK = "a fork of the blocking client; the awaitable one has a test of its own"
_SIGNAL = "a signal handler that calls a blocking client while it is blocking; on a loop nothing blocks"
_UNITS = "parts without a client and without a call that waits; both faces stand on the very same"

LEFT_OUT: Dict[str, Dict[str, str]] = {
    "tests.client.test_sign_in": {
        "test_c001_a_proxy_that_drops_the_key_is_named_by_the_server": _RAW,
        "test_c003_the_description_needs_no_key": _RAW,
        "test_c006_an_empty_body": _RAW,
    },
    "tests.client.test_users": {
        "test_c027_the_server_says_422": _RAW,
        "test_c028_an_unknown_query_key": _RAW,
    },
    "tests.client.test_tables": {
        "test_c042_realtime_is_no_field": "half of it makes a model and no call",
    },
    "tests.client.test_failures": {
        "test_c100_every_call_blocks_and_needs_no_loop": "what tells the blocking face from this one",
    },
    "tests.client.test_raw_responses": {
        "test_every_call_of_one_exchange_is_there": _CLASSES,
        "test_signatures_are_those_of_the_plain_calls": _CLASSES,
        "test_types_are_known_statically": _CLASSES,
        "test_each_call_of_the_specification": "the table of the specification's calls is run on its own",
    },
    "tests.client.test_idempotency": {
        "test_every_write_takes_a_key": _CLASSES,
    },
    "tests.realtime.test_client_channels": {
        "test_r20_disconnect_in_a_signal_handler": _SIGNAL,
    },
    "tests.realtime.test_client_connect": {
        "test_c119_neither_importing_nor_making_a_client_starts_anything": _PROCESS,
        "test_c119_an_open_connection_does_not_hold_up_the_exit": _PROCESS,
        "test_r65_a_forked_child_starts_disconnected_and_may_connect_anew": _FORK,
    },
    "tests.realtime.test_client_tokens": {
        "test_a_short_token_is_renewed_once": _UNITS,
        "test_the_times_of_a_short_token_are_parts_of_its_life": _UNITS,
        "test_without_a_refresh_token_nothing_is_asked": _UNITS,
    },
    "tests.realtime.test_events": {
        "test_events_in_order": "who is told of a stream's end is told of the blocking one",
        "test_a_pause_ends_with_the_stream": "a pause is the package's own, and on neither face",
    },
    "tests.realtime.test_streams_asked": {
        "test_old_is_the_row_as_it_was_given_even_if_events_lag_behind_what_was_read": "it gives a stream to a "
        "follower, which takes blocking ones",
    },
    "tests.realtime.test_chaos": {
        "test_c112_a_server_that_is_killed_and_comes_back": "half a minute, of which this process does little",
    },
    "tests.realtime.test_end_to_end": {
        "test_c119_a_subscription_does_not_hold_up_the_exit": _PROCESS,
    },
}
"""Tests of modules that are run again."""

NEVER_AWAITED = {
    "test_a_topic_has_to_be_one",
    "test_the_room_of_a_loop_has_to_be_a_number",
    "test_what_is_said_before_anything_is_sent",
    "test_list_twins_check_when_they_are_called",
    "test_c066_any_table_id_is_one_segment",
    "test_c070_any_chain_says_what_was_said_last",
    "test_c071_a_table_id_that_is_none",
    "test_c071_refused_where_it_is_said",
}
"""Tests of what passes through the awaitable face, in some or all of their forms: steps of a query, refusals."""

NOT_AGAIN: Dict[str, str] = {
    "tests.client.test_models": "models are the very same classes, and no call is made",
    "tests.client.test_same_on_both": "it compares what the server answers on both databases, by raw answers",
    "tests.realtime.test_channel_machine": _UNITS,
    "tests.realtime.test_channel_pushes": _UNITS,
    "tests.realtime.test_frames": _UNITS,
    "tests.realtime.test_payloads": _UNITS,
    "tests.realtime.test_session_machine": _UNITS,
    "tests.realtime.test_volume": "the measure of time that the link takes, without a call",
}
"""Modules with numbered tests of the client that are not run again."""

CASES_NOT_AGAIN: Dict[int, str] = {
    3: "the description of the server needs no key: nothing of the client",
    100: "what tells the two faces apart; of the awaitable one it is proven call by call",
    111: "the steps of rejoining, on a clock of the machine that both faces stand on",
    115: "what is pushed before a join, in the machine that both faces stand on",
    123: "both databases answer alike: nothing of the client",
}
"""Cases of the client that no test proves a second time."""
