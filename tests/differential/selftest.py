"""The comparison itself: what has to be told as a difference is told, what says nothing is not."""

import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent))

import report
from compare import Names, compare, same_words, text
from expected import Entry
from language import read
from run import Runner, Side


def answer(status=200, body=None, **headers):
    return SimpleNamespace(status=status, body=body, raw=b"", headers=headers)


def found(one, other):
    return [(one["at"], one["kind"]) for one in compare(one, other, [Names(), Names()], "here")]


class Words(unittest.TestCase):
    def test_ferric_begins_with_what_ironic_says(self):
        self.assertTrue(same_words("No such node.", "No such  node: look at GET /v1/nodes"))
        self.assertFalse(same_words("No such node.", "Alas! No such node."))
        self.assertFalse(same_words("No such node", "No such nodes"))

    def test_an_ironic_that_says_nothing_proves_nothing(self):
        self.assertFalse(same_words("", "anything"))
        self.assertFalse(same_words(" . ", "anything"))


class Forms(unittest.TestCase):
    def test_the_form_of_a_time_counts(self):
        shown = [text(one, Names(), "here") for one in (
            "2026-11-23T01:02:03.123456+00:00", "2026-11-23T04:05:06.654321+00:00", "2026-11-23 01:02:03.123456+00:00",
            "2026-11-23T01:02:03+00:00", "2026-11-23T01:02:03.123+00:00", "2026-11-23T01:02:03.123456Z",
        )]
        self.assertEqual(shown[0], shown[1])
        self.assertEqual(len(set(shown)), 5)

    def test_allow_is_compared_where_both_have_it(self):
        self.assertEqual(found(answer(Allow="GET, PUT"), answer(Allow="PUT,GET")), [])
        self.assertEqual(found(answer(Allow="GET"), answer(Allow="GET, PUT")), [("header allow", "header")])
        self.assertEqual(found(answer(Allow="GET"), answer()), [])


class Lists(unittest.TestCase):
    def test_an_entry_tells_the_place_and_both_values(self):
        whole = {"reason": "r", "at": "status", "ironic": "500", "ferric": "400"}
        Entry(whole)
        for key in whole:
            with self.assertRaises(ValueError):
                Entry({name: value for name, value in whole.items() if name != key})

    def test_an_entry_can_tell_what_was_sent(self):
        entry = Entry({"reason": "r", "at": "status", "ironic": "202", "ferric": "400", "sent": ".*no_such_step.*"})
        difference = {"at": "status", "kind": "status", "ironic": 202, "ferric": 400}
        step = lambda body: SimpleNamespace(resource="states", body=body)
        self.assertTrue(entry.fits(step('{"step": "no_such_step"}'), "PUT /x @1.1", difference))
        self.assertFalse(entry.fits(step('{"target": "manage"}'), "PUT /x @1.1", difference))

    def test_what_no_side_keeps_or_reaches_is_told(self):
        class Peer:
            name, stumbles = "nobody", False

            def ask(self, method, path, headers=None, body=None):
                return answer(404, {})

        steps = read("here", "== nothing\nPOST /nodes @35,36 {} -> n\nwait /nodes/$n provision_state=active\n")[0]
        told = [one["at"] for _, differences in Runner(Peer(), Peer()).scenario(steps) for one in differences]
        self.assertEqual(told, ["keep n", "wait"])


class Stumbles(unittest.TestCase):
    def test_a_locked_database_is_forgiven_ironic_only(self):
        for stumbles, asked in ((True, 2), (False, 1)):
            answers = [answer(500), answer(200)]
            answers[0].raw = b"database is locked"
            seen = []
            peer = SimpleNamespace(stumbles=stumbles, name="x", ask=lambda *_: seen.append(1) or answers[len(seen) - 1])
            Side(peer).send(read("here", "== x\nGET /nodes\n")[0].steps[0], set())
            self.assertEqual(len(seen), asked)


class Figures(unittest.TestCase):
    def test_a_count_that_changed_is_told(self):
        before = "| nodes | 3 | 100 % | 1 |\n- a reason (2)"
        after = "| nodes | 3 | 100 % | 1 |\n- a reason (3)"
        path = SimpleNamespace(name="page", read_text=lambda: f"{report.BEGIN}\n{before}\n{report.END}")
        told = report.check_docs(path, SimpleNamespace(text=lambda: after))
        self.assertEqual(told[0], "page: a reason: 2 -> 3")
        self.assertEqual(report.check_docs(path, SimpleNamespace(text=lambda: before)), [])


if __name__ == "__main__":
    unittest.main()
