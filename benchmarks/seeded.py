"""The faults that ``faults.py`` plants: each undoes one protection, and names the conformance case that tells."""

from __future__ import annotations

from typing import NamedTuple, Tuple


class Fault(NamedTuple):
    """One protection undone.

    :ivar name: what is wrong then.
    :ivar path: the file.
    :ivar before: what stands there, exactly once.
    :ivar after: what stands there instead.
    :ivar tests: of which one has to fail.
    """

    name: str
    path: str
    before: str
    after: str
    tests: Tuple[str, ...]


_COMMITS = (
    # A write is there whole or not at all, and stays.
    Fault(
        "a transaction that writes has no lock before its first write",
        "selfdb/indexie/file/connection.py",
        '.execute("BEGIN IMMEDIATE")',
        '.execute("BEGIN")',
        ("tests/indexie/test_protections.py::test_c069_the_lock_is_there_before_the_first_write",),
    ),
    Fault(
        "a strict commit does not wait for the disk",
        "selfdb/indexie/file/connections.py",
        "'FULL' if self._strict else 'NORMAL'",
        "'NORMAL' if self._strict else 'NORMAL'",
        ("tests/indexie/test_protections.py::test_i1_strict_commits_wait_for_the_disk",),
    ),
    Fault(
        "a batch that fails keeps its good rows",
        "selfdb/indexie/tables/bulk.py",
        "        if outcome.failures and not (partial or sink.explicit):\n            raise report(outcome)\n",
        "",
        ("tests/indexie/test_writes.py::test_c044_a_clash_undoes_the_call",),
    ),
    Fault(
        "rows that clash are put one by one over what was there before another one's commit",
        "selfdb/indexie/tables/bulk.py",
        "        present = sink.many(store, keys) if keys else {}\n    touched",
        "    touched",
        ("tests/indexie/test_protections.py::test_c044_rows_put_one_by_one_after_a_clash_meet_what_came_in_between",),
    ),
    Fault(
        "an inner transaction that fails undoes nothing",
        "selfdb/indexie/file/writer.py",
        'writer.connection.execute("ROLLBACK TO ix")',
        'writer.connection.execute("SELECT 1")',
        ("tests/indexie/test_transactions.py::test_c066_a_failure_within_undoes_only_its_own",),
    ),
    Fault(
        "a row of several statements is left as far as it came",
        "selfdb/indexie/file/writer.py",
        '            self._execute("ROLLBACK TO ix_row")\n',
        "",
        ("tests/indexie/test_writes.py::test_c036_of_a_unique_multi_entry_index",),
    ),
    Fault(
        "a transaction that was torn in the middle of a write is committed",
        "selfdb/indexie/file/writer.py",
        "if self._torn or self._saved or not self._raw.in_transaction:",
        "if self._saved or not self._raw.in_transaction:",
        ("tests/indexie/test_protections.py::test_c074_what_was_torn_is_not_committed",),
    ),
    Fault(
        "outbox entries are written in a transaction of their own",
        "selfdb/indexie/file/writer.py",
        "        if self.effects:\n            self.database._hooks.enqueue(",
        "        if self.effects:\n            self.connection.commit()\n            self.connection.begin()\n"
        "            self.database._hooks.enqueue(",
        ("tests/indexie/test_crashes.py::test_c071_ending_before_each_statement[add]",),
    ),
    Fault(
        "an upgrade commits version by version",
        "selfdb/indexie/schema/upgrade.py",
        "            chain.step(stores, hooks)\n",
        "            chain.step(stores, hooks)\n            connection.commit()\n            connection.begin()\n",
        (
            "tests/indexie/test_upgrades.py::test_c007_an_upgrade_that_fails_leaves_the_file",
            "tests/indexie/test_crashes.py::test_c071_ending_before_each_statement[upgrade]",
        ),
    ),
    Fault(
        "an upgrade does not look whether another process has made it",
        "selfdb/indexie/file/opening.py",
        "            schema = catalogue.read(connection)\n            if _behind",
        "            schema = schema or catalogue.read(connection)\n            if _behind",
        ("tests/indexie/test_protections.py::test_c010_an_upgrade_that_another_has_just_made_is_not_made_again",),
    ),
    Fault(
        "a transaction that reads has no snapshot",
        "selfdb/indexie/file/snapshot.py",
        "            self.connection.begin_snapshot()\n",
        "",
        ("tests/indexie/test_transactions.py::test_c068_reading_sees_one_state",),
    ),
)

_LIVE = (
    # No live query misses a change of its range.
    Fault(
        "a live query is registered after its first snapshot",
        "selfdb/indexie/live/tracking.py",
        "                self._begin(self.database)\n                view = self.database._snapshot(self._lease)\n",
        "                view = self.database._snapshot(self._lease)\n                self._begin(self.database)\n",
        ("tests/indexie/test_protections.py::test_c080_a_commit_right_after_the_first_snapshot",),
    ),
    Fault(
        "what came during a first run is forgotten",
        "selfdb/indexie/live/feed.py",
        "if behind or start.everything or any(_concerns(event, listener) for event in start.missed):",
        "if behind:",
        ("tests/indexie/test_protections.py::test_c080_a_commit_right_after_the_first_snapshot",),
    ),
    Fault(
        "a live query trusts a feed that another one has begun",
        "selfdb/indexie/live/feed.py",
        "behind = start.blind and self._thread is not None and listener.seq < self._cursor",
        "behind = False",
        ("tests/indexie/test_protections.py::test_c080_a_commit_before_another_query_begins_the_feed",),
    ),
    Fault(
        "a live query takes the commit after its snapshot for a part of it",
        "selfdb/indexie/live/feed.py",
        "else self.seq > listener.seq",
        "else self.seq > listener.seq + 1",
        ("tests/indexie/test_live_runs.py::TestCase080::test_c080_a_commit_during_the_first_run",),
    ),
    Fault(
        "a log that was pruned too far is not noticed",
        "selfdb/indexie/live/feed.py",
        "if rows and (rows[0][2] or 0) > self._cursor:",
        "if not rows and self._failing:",
        ("tests/indexie/test_live_runs.py::TestCase081::test_c081_a_log_pruned_past_what_was_seen_runs_everything",),
    ),
    Fault(
        "commits of other processes are looked for when this one commits",
        "selfdb/indexie/live/feed.py",
        "            _wait(gate, poll_interval)\n",
        "            _wait(gate, 3600.0)\n",
        ("tests/indexie/test_live_runs.py::TestCase081::test_c081_a_commit_of_another_process_is_seen",),
    ),
    Fault(
        "two connections' counts of changes are compared",
        "selfdb/indexie/live/feed.py",
        "look = (connection.raw, int(",
        "look = (None, int(",
        ("tests/indexie/test_protections.py::test_c081_a_commit_while_a_fork_has_closed_the_connections",),
    ),
    Fault(
        "the bell is taken down after the log was read",
        "selfdb/indexie/live/feed.py",
        "                self._rung = False  # before the log is read: who commits from here on rings again\n",
        "",
        ("tests/indexie/test_protections.py::test_c080_a_commit_during_a_run_needs_no_poll",),
    ),
    Fault(
        "the log has the new keys of a row only",
        "selfdb/indexie/file/log.py",
        "for side in (old, new) if",
        "for side in (new,) if",
        ("tests/indexie/test_live.py::TestCase076::test_c076_what_lies_in_the_range_runs_it",),
    ),
    Fault(
        "rows beyond the most that a commit tells are not told at all",
        "selfdb/indexie/file/log.py",
        "            self._whole |= {store.name}\n\n    def whole",
        "            pass\n\n    def whole",
        ("tests/indexie/test_protections.py::test_c076_more_rows_than_a_commit_tells_one_by_one",),
    ),
    Fault(
        "a run that fails forgets what the last one has read",
        "selfdb/indexie/live/watch.py",
        "        reads.merge(self.reads)\n",
        "",
        ("tests/indexie/test_live_callbacks.py::TestCase082::test_c082_a_run_that_fails_keeps_the_value_and_is_told",),
    ),
    Fault(
        "what was undone is told",
        "selfdb/indexie/file/writer.py",
        "        writer.changes.back_to(mark.changes)\n",
        "",
        ("tests/indexie/test_live_callbacks.py::TestCase084::test_c084_nor_does_the_part_that_was",),
    ),
    Fault(
        "a snapshot counts the next change of an overlay as its own",
        "selfdb/indexie/overlays/publish.py",
        "tuple(layer.freeze() for layer in self.layers), self.epoch)",
        "tuple(layer.freeze() for layer in self.layers), self.epoch + 1)",
        ("tests/indexie/test_protections.py::test_i2_a_row_that_an_overlay_moves_out_of_a_range_and_back",),
    ),
    Fault(
        "an overlay tells where its rows are, not where they were",
        "selfdb/indexie/overlays/overlay.py",
        "self.log.record(store, key, was, ",
        "self.log.record(store, key, None, ",
        ("tests/indexie/test_protections.py::test_i2_a_row_that_an_overlay_moves_out_of_a_range_and_back",),
    ),
    Fault(
        "an overlay that goes does not tell what it covered",
        "selfdb/indexie/overlays/optimistic.py",
        "now = None if found is None else extract(load(found.text))",
        "now = None",
        ("tests/indexie/test_protections.py::test_i2_a_row_that_an_overlay_moves_out_of_a_range_and_back",),
    ),
    Fault(
        "an overlay that goes does not tell what another one shows",
        "selfdb/indexie/overlays/optimistic.py",
        "lambda others: _note(changes, overlay, overlay.held, others))",
        "lambda others: None)",
        ("tests/indexie/test_protections.py::test_i2_a_row_of_two_overlays",),
    ),
)

_OVERLAYS = (
    # A reader sees each row once.
    Fault(
        "an overlay is taken away before its rows are committed",
        "selfdb/indexie/file/writer.py",
        "                connection.commit()\n                if publish is not None:\n                    publish()\n",
        "                if publish is not None:\n                    publish()\n                connection.commit()\n",
        ("tests/indexie/test_protections.py::test_i3_an_overlay_is_in_sight_until_its_rows_are_real",),
    ),
    Fault(
        "a commit does not wait for a reader that takes its snapshot",
        "selfdb/indexie/file/writer.py",
        "            with self.database._publisher.mutex:\n",
        "            if True:\n",
        ("tests/indexie/test_protections.py::test_i3_a_commit_in_the_middle_of_a_read_waits_for_it",),
    ),
    Fault(
        "a reader takes its snapshot and the overlays one after the other",
        "selfdb/indexie/overlays/publish.py",
        "        with self.mutex:\n            return Merged(begin(), tuple(",
        "        if True:\n            return Merged(begin(), tuple(",
        ("tests/indexie/test_protections.py::test_i3_a_commit_in_the_middle_of_a_read_waits_for_it",),
    ),
    Fault(
        "a read that an overlay overtakes does not show it",
        "selfdb/indexie/file/reader.py",
        "if publisher.epoch == epoch else None",
        "if epoch >= 0 else None",
        ("tests/indexie/test_protections.py::test_i3_a_read_that_an_overlay_overtakes_shows_it",),
    ),
    Fault(
        "what a reader was given of an overlay is changed",
        "selfdb/indexie/overlays/overlay.py",
        "        self._frozen.update(self._rows)\n",
        "",
        ("tests/indexie/test_protections.py::test_i3_a_view_keeps_what_it_saw_of_an_overlay",),
    ),
    Fault(
        "overlays lie in the order of their first rows",
        "selfdb/indexie/overlays/publish.py",
        "self.layers = tuple(each for each in self._everyone if each is layer or each in self.layers)",
        "self.layers = (*self.layers, layer)",
        ("tests/indexie/test_overlays.py::test_c094_several_overlays_lie_in_the_order_of_their_beginning",),
    ),
    Fault(
        "a cut result lacks the rows that an overlay covers",
        "selfdb/indexie/overlays/merge.py",
        "limit + offset + len(rows)",
        "limit + offset",
        ("tests/indexie/test_protections.py::test_i3_a_cut_result_has_no_gap_where_an_overlay_lies",),
    ),
    Fault(
        "a row that was changed elsewhere is overwritten",
        "selfdb/indexie/overlays/settle.py",
        "moved = [key for key in rows if (present[key].version if key in present else 0) != touched[key]]",
        "moved = [key for key in rows if key not in touched]",
        ("tests/indexie/test_overlays.py::test_c096_a_row_changed_elsewhere_is_a_conflict",),
    ),
    Fault(
        "a row that is changed keeps its version",
        "selfdb/indexie/file/writer.py",
        "values = (self.seq, text, ",
        "values = (old.version, text, ",
        ("tests/indexie/test_overlays.py::test_c096_a_row_changed_elsewhere_is_a_conflict",),
    ),
    Fault(
        "what was changed while the hooks ran is overwritten",
        "selfdb/indexie/overlays/settle.py",
        "_store(settlement, writer, edits)",
        "_store(settlement._replace(overwrite=True), writer, edits)",
        (
            "tests/indexie/test_hooks.py::test_c091_a_row_that_moved_meanwhile_is_a_conflict",
            "tests/indexie/test_overlays.py::test_c096_one_that_comes_while_the_hooks_run_says_so",
        ),
    ),
)

_OUTBOX = (
    # No entry ends before every hook that it requires has succeeded.
    Fault(
        "who has lost his lease ends the entry all the same",
        "selfdb/indexie/hooks/outbox_tables.py",
        "    if not _holds(connection, entry, token):\n        return False\n    connection.executemany(",
        "    connection.executemany(",
        ("tests/indexie/test_outbox.py::test_c089_who_was_too_slow_ends_nothing",),
    ),
    Fault(
        "a lease is not renewed",
        "selfdb/indexie/hooks/delivery.py",
        "outbox_tables.renew(connection, *held, self._clock.time() + self._timing.lease)",
        "outbox_tables.renew(connection, *held, self._clock.time())",
        ("tests/indexie/test_outbox.py::test_c089_another_takes_over_when_the_lease_of_a_dead_one_is_over",),
    ),
    Fault(
        "an entry is taken that another process has",
        "selfdb/indexie/hooks/outbox_tables.py",
        "WHERE e.next_at <= ? AND e.leased <= ? AND",
        "WHERE e.next_at <= ? AND e.leased <= ? + 1e12 AND",
        ("tests/indexie/test_protections.py::test_c089_who_comes_second_finds_nothing_to_take",),
    ),
    Fault(
        "the first hook that succeeds ends the entry for all",
        "selfdb/indexie/hooks/outbox_tables.py",
        '"DELETE FROM _ix_duty WHERE entry = ? AND hook = ?", [(entry, name) for name in done]',
        '"DELETE FROM _ix_duty WHERE entry = ?", [(entry,)]',
        (
            "tests/indexie/test_outbox.py::test_c087_only_the_hooks_that_have_not_succeeded_run_again",
            "tests/indexie/test_outbox.py::test_c089_a_process_delivers_only_what_it_has_registered",
        ),
    ),
    Fault(
        "a hook that has succeeded runs again when a later one fails",
        "selfdb/indexie/hooks/delivery.py",
        "self._settle(outbox_tables.finish, stored, done, last=place == len(names))",
        "(place < len(names) or self._settle(outbox_tables.finish, stored, names, last=True))",
        ("tests/indexie/test_protections.py::test_c087_who_has_succeeded_is_not_told_again_when_a_later_one_fails",),
    ),
    Fault(
        "the entries of a key overtake each other",
        "selfdb/indexie/hooks/outbox_tables.py",
        "AND d.k = e.k)",
        "AND d.k = e.k AND 0)",
        ("tests/indexie/test_outbox.py::test_c090_a_failing_one_holds_up_those_behind_it_and_no_other_key",),
    ),
    Fault(
        "entries overtake the clearing of their table",
        "selfdb/indexie/hooks/outbox_tables.py",
        "AND d.cleared)",
        "AND d.cleared AND 0)",
        ("tests/indexie/test_outbox.py::test_c090_clearing_a_table_waits_for_all_before_and_holds_up_all_after",),
    ),
    Fault(
        "the clearing of a table overtakes entries",
        "selfdb/indexie/hooks/outbox_tables.py",
        "AND (NOT e.cleared OR NOT EXISTS ({earlier}))",
        "AND (1 OR NOT EXISTS ({earlier}))",
        ("tests/indexie/test_outbox.py::test_c090_clearing_a_table_waits_for_all_before_and_holds_up_all_after",),
    ),
    Fault(
        "retiring one hook ends entries that others require",
        "selfdb/indexie/hooks/outbox_tables.py",
        '        "AND NOT EXISTS (SELECT 1 FROM _ix_duty WHERE entry = _ix_outbox.id)",\n',
        '        "",\n',
        ("tests/indexie/test_protections.py::test_i4_retiring_one_hook_ends_nothing_that_others_require",),
    ),
    Fault(
        "hooks that another process adds are not required",
        "selfdb/indexie/hooks/registry.py",
        "latest.number != number or ",
        "",
        ("tests/indexie/test_protections.py::test_i4_a_hook_of_another_process_is_required_from_then_on",),
    ),
    Fault(
        "a hook that was told inline is told again",
        "selfdb/indexie/hooks/registry.py",
        "if names and done and done[place]:",
        "if names and done and not done:",
        ("tests/indexie/test_overlays.py::test_c094_hooks_run_inline_in_the_order_of_the_operations",),
    ),
    Fault(
        "a hook that is added in the middle of a look is overlooked",
        "selfdb/indexie/hooks/delivery.py",
        "if self._seen != (raw, version, moment):",
        "if (self._seen or (None, 0))[:2] != (raw, version):",
        ("tests/indexie/test_protections.py::test_c088_a_hook_that_is_added_in_the_middle_of_a_look",),
    ),
)

_UNDOING = (
    # What fails leaves everything as it was.
    Fault(
        "a call that fails leaves an overlay as far as it came",
        "selfdb/indexie/overlays/overlay.py",
        "        while self._journal:\n",
        "        while False:\n",
        ("tests/indexie/test_protections.py::test_i5_a_call_that_fails_leaves_an_overlay_as_it_was",),
    ),
    Fault(
        "an overlay stays when its commit fails",
        "selfdb/indexie/overlays/optimistic.py",
        '            self._end("rolled back: its commit failed")\n',
        "            pass\n",
        ("tests/indexie/test_overlays.py::test_c094_a_hook_that_fails_at_the_commit_takes_the_row_away",),
    ),
    Fault(
        "keys of an inner transaction that was undone are lost",
        "selfdb/indexie/file/writer.py",
        "        writer._generators = mark.generators\n",
        "",
        ("tests/indexie/test_writes.py::test_c034_so_is_one_of_a_nested_block",),
    ),
    Fault(
        "hooks are told of what was undone",
        "selfdb/indexie/file/writer.py",
        "        del writer.effects[mark.effects :]\n",
        "",
        ("tests/indexie/test_protections.py::test_i5_hooks_are_not_told_of_what_was_undone",),
    ),
)

_ROWS = (
    # What is stored is what was given, and found under its keys.
    Fault(
        "a row takes the place of another one that has its unique key",
        "selfdb/indexie/file/rows.py",
        'f"UPDATE {self.table} SET',
        'f"UPDATE OR REPLACE {self.table} SET',
        ("tests/indexie/test_writes.py::test_c037_put_onto_another_rows_unique_entry",),
    ),
    Fault(
        "a new row takes the place of another one that has its unique key",
        "selfdb/indexie/file/rows.py",
        'f"INSERT INTO {table} (',
        'f"INSERT OR REPLACE INTO {table} (',
        ("tests/indexie/test_writes.py::test_c036_an_existing_entry_of_a_unique_index",),
    ),
    Fault(
        "large integers in arrays are rounded",
        "selfdb/indexie/keys/keys.py",
        "lost = value - int(double) if isinstance(value, int) else 0",
        "lost = 0",
        ("tests/indexie/test_protections.py::test_c020_large_integers_in_arrays_are_exact",),
    ),
    Fault(
        "a prefix ends with the last character of the basic plane",
        "selfdb/indexie/keys/keys.py",
        "key[:-1] + bytes((key[-1] + 1,))",
        'key + "\\uffff".encode()',
        ("tests/indexie/test_queries.py::test_c051_the_bound_holds_for_any_character",),
    ),
    Fault(
        "strings with a zero end early in arrays",
        "selfdb/indexie/keys/keys.py",
        'key[1:].replace(b"\\x00", b"\\x00\\xff")',
        "key[1:]",
        ("tests/indexie/test_protections.py::test_c019_arrays_of_strings_with_zeros",),
    ),
    Fault(
        "documents that look like the store's own are taken for them",
        "selfdb/indexie/keys/values.py",
        'return {"$ix": ["o", explicit["$ix"]]} if len(explicit) == 1 and "$ix" in explicit else explicit',
        "return explicit",
        ("tests/indexie/test_values.py::test_c025_dicts_that_look_like_ours",),
    ),
    Fault(
        "a generated key is put into the caller's dict",
        "selfdb/indexie/tables/mutations.py",
        "        document = {**document, path: number}\n",
        "        document[path] = number\n",
        (
            "tests/indexie/test_protections.py::"
            "test_c030_a_generated_key_that_an_index_has_is_not_put_into_the_callers_dict",
        ),
    ),
)

_FILES = (
    # Who shares the file, and in which version.
    Fault(
        "readers go on in a file that another process has upgraded",
        "selfdb/indexie/file/rows.py",
        "Rows(store, schema.guard)",
        'Rows(store, "1")',
        ("tests/indexie/test_opening.py::test_c011_another_process_upgrades",),
    ),
    Fault(
        "writers go on in a file that another process has upgraded",
        "selfdb/indexie/schema/schema.py",
        'return NEWEST.replace(" ORDER", f" WHERE {self.guard} ORDER")',
        "return NEWEST",
        ("tests/indexie/test_opening.py::test_c011_another_process_upgrades",),
    ),
    Fault(
        "a changed schema of the same version is not noticed",
        "selfdb/indexie/file/opening.py",
        "    if wrong:\n",
        "    if wrong is None:\n",
        ("tests/indexie/test_opening.py::test_c017_the_same_version_with_another_schema",),
    ),
    Fault(
        "the database of another program is written to",
        "selfdb/indexie/schema/catalogue.py",
        "    if objects or application or layout:\n",
        "    if application or layout:\n",
        ("tests/indexie/test_opening.py::test_c018_a_database_of_another_program",),
    ),
    Fault(
        "connections stay open through a fork",
        "selfdb/indexie/file/connections.py",
        "            while connection.is_open and not connection.put_away_if_idle():\n",
        "            while False:\n",
        ("tests/indexie/test_processes.py::test_c072_a_fork_of_an_open_database",),
    ),
    Fault(
        "a forked child uses a file that it inherited locked",
        "selfdb/indexie/file/connections.py",
        "                _lost.add(os.path.realpath(self.path))\n",
        "                pass\n",
        ("tests/indexie/test_processes.py::test_c072_a_fork_within_a_transaction",),
    ),
    Fault(
        "live queries of a forked child wait for ever",
        "selfdb/indexie/live/watch.py",
        "        self.closed = self.closed or self.starting or self._feed is not None\n",
        "",
        ("tests/indexie/test_processes.py::test_c072_a_fork_of_an_open_database",),
    ),
)

FAULTS: Tuple[Fault, ...] = (*_COMMITS, *_LIVE, *_OVERLAYS, *_OUTBOX, *_UNDOING, *_ROWS, *_FILES)
