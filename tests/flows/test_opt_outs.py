"""Opt-outs act: in the very next round, for the purpose and all below it, and for nothing else."""

import polars as pl
import pytest


def without(rows, customers):
    return rows.filter(~pl.col("customer_id").is_in(customers))


def test_rows_of_opted_out_customers_give_the_same_bits_present_or_deleted(build, worlds, pair):
    rows = worlds.make_rows("north", 40)
    gone = ["N001", "N017", "N033"]
    present, deleted = build(pair), build(pair, rows={"north": without(rows, gone)})
    for customer in gone:
        present.unit("north").opt_out(f" {customer.lower()} ", worlds.PURPOSE)
    present.run()
    deleted.run()
    assert len(present.updates()) == 4
    assert present.updates() == deleted.updates()
    assert present.model() == deleted.model()
    digests = [sorted(r.update for r in worlds.receipts_of(w.bundle())) for w in (present, deleted)]
    assert digests[0] == digests[1] == sorted(present.updates().values())


def test_opted_out_customers_were_in_before(build, worlds, pair):
    """The twin of the test above: without the opt-outs the same rows do act."""
    rows = worlds.make_rows("north", 40)
    present, deleted = build(pair), build(pair, rows={"north": without(rows, ["N001"])})
    present.run()
    deleted.run()
    assert present.updates()["north", 1] != deleted.updates()["north", 1]
    assert present.updates()["south", 1] == deleted.updates()["south", 1]
    assert present.model() != deleted.model()


@pytest.mark.parametrize("column", ["tenure", "churn"])
def test_one_changed_cell_of_a_customer_who_is_in_changes_the_units_update(
    build, worlds, pair, column
):
    rows = worlds.make_rows("north", 40)
    new = {"tenure": "71", "churn": "no" if rows["churn"][5] == "yes" else "yes"}[column]
    changed = rows.with_columns(
        pl.when(pl.col("customer_id") == "N005")
        .then(pl.lit(new))
        .otherwise(pl.col(column))
        .alias(column)
    )
    first, second = build(pair), build(pair, rows={"north": changed})
    first.run()
    second.run()
    assert first.updates()["north", 1] != second.updates()["north", 1]
    assert first.updates()["south", 1] == second.updates()["south", 1]


def test_a_changed_row_of_an_opted_out_customer_changes_nothing(build, worlds, pair):
    rows = worlds.make_rows("north", 40)
    odd = pl.when(pl.col("customer_id") == "N005").then(pl.lit("72")).otherwise(pl.col("tenure"))
    first, second = build(pair), build(pair, rows={"north": rows.with_columns(tenure=odd)})
    for world in (first, second):
        world.unit("north").opt_out("N005", worlds.PURPOSE)
        world.run()
    assert first.updates() == second.updates()


def test_an_opt_out_in_mid_run_acts_in_the_next_round_and_not_before(build, worlds, pair):
    rows = worlds.make_rows("north", 40)
    objecting, deleting, plain = build(pair), build(pair), build(pair)

    def object_(report):
        if report.round == 1:
            objecting.unit("north").opt_out("N020", worlds.PURPOSE)

    def delete(report):
        if report.round == 1:
            deleting.unit("north").write_rows(without(rows, ["N020"]))

    objecting.run(watch=object_)
    deleting.run(watch=delete)
    plain.run()
    assert objecting.updates() == deleting.updates()
    assert objecting.updates()["north", 1] == plain.updates()["north", 1]
    assert objecting.updates()["north", 2] != plain.updates()["north", 2]


def test_an_opt_out_of_the_parent_purpose_covers_the_child(build, worlds, pair):
    parent, child = build(pair), build(pair)
    parent.unit("north").opt_out("N020", worlds.PARENT)
    child.unit("north").opt_out("N020", worlds.PURPOSE)
    parent.run()
    child.run()
    assert parent.updates() == child.updates()


def test_an_opt_out_of_another_purpose_excludes_nobody(build, worlds, pair):
    other, none = build(pair), build(pair)
    other.unit("north").opt_out("N020", worlds.OTHER)
    other.run()
    none.run()
    assert other.updates() == none.updates()


def test_an_opt_out_at_one_unit_says_nothing_about_the_same_number_at_another(build, worlds, pair):
    """Pseudonyms are keyed per unit: `N020` at south is nobody."""
    other, none = build(pair), build(pair)
    other.unit("south").opt_out("N020", worlds.PURPOSE)
    other.run()
    none.run()
    assert other.updates() == none.updates()


def test_an_opt_out_acts_here_although_governance_cannot_be_told_yet(build, worlds, pair):
    cut, told = build(pair), build(pair)

    def object_at(world, line_is_cut):
        def act(report):
            if report.round == 1:
                world.unit("north").opt_out("N020", worlds.PURPOSE)
                world.federation.cut_off = line_is_cut

        return act

    cut.run(watch=object_at(cut, line_is_cut=True))
    told.run(watch=object_at(told, line_is_cut=False))
    assert cut.updates() == told.updates()
    with cut.unit("north").node() as node:
        assert len(node.opt_outs.pending()) == 1
