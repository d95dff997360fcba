"""What a run needs, by hand, and which forward fits."""

from dataclasses import replace

from thumbs.scoring.memory import (
    LEAST_TOKENS,
    WORKSPACE,
    ModelShape,
    fixed_bytes,
    forward_bytes,
    largest_budget,
    peak_bytes,
    token_bytes,
)

SHAPE = ModelShape(
    parameters=1_000,
    trained=1_000,
    hidden=10,
    intermediate=30,
    layers=2,
    heads=5,
    kv_width=4,
    vocabulary=100,
)


def test_weights_gradients_and_moments_by_hand() -> None:
    assert fixed_bytes(SHAPE) == 16_000
    # 900 frozen weights of 2 bytes, 100 trained of 16.
    adapters = replace(SHAPE, trained=100, weight_bytes=2)
    assert fixed_bytes(adapters) == 1_800 + 1_600
    # Products in bfloat16 take a copy of every weight.
    assert fixed_bytes(replace(SHAPE, compute_bytes=2)) == 16_000 + 2_000


def test_a_token_by_hand() -> None:
    # Norms 4 * 10 * 4 = 160, products (40 + 8 + 120) * 4 = 672, weights 5 * 7 * 4 = 140.
    assert token_bytes(SHAPE, keys=7) == 2 * (160 + 672 + 140)
    # In bfloat16: products 168 * 2 = 336, and the stream 2 * 10 * 4 = 80 stays wide.
    assert token_bytes(replace(SHAPE, compute_bytes=2), keys=7) == 2 * (160 + 336 + 80 + 140)
    # No more than 512 keys keep their weights; fused attention keeps none.
    assert token_bytes(SHAPE, keys=9_999) == 2 * (160 + 672 + 5 * 512 * 4)
    assert token_bytes(replace(SHAPE, packs=False), keys=7) == 2 * (160 + 672)
    # Checkpointing: one layer, and the input of each.
    assert token_bytes(replace(SHAPE, checkpoints=True), keys=7) == 160 + 672 + 140 + 2 * 10 * 4


def test_a_forward_adds_what_is_at_work_and_the_head() -> None:
    # At work 3 * (10 + 30) * 4 = 480 a token; the head's states 10 * 2 * 4 = 80 a token.
    assert forward_bytes(SHAPE, 100, keys=7) == 100 * (1_944 + 480 + 80)
    assert peak_bytes(SHAPE, 100, keys=7) == 16_000 + 250_400 + WORKSPACE


def test_the_budget_is_halved_until_it_fits_into_nine_tenths() -> None:
    def budget(free: int, largest: int = 10**9) -> int:
        return largest_budget(SHAPE, free, keys=7, most=4_096, largest=largest)

    need = {tokens: peak_bytes(SHAPE, tokens, keys=7) for tokens in (4_096, 2_048, 1_000)}
    assert budget(round(need[4_096] / 0.9) + 2) == 4_096
    assert budget(round(need[4_096] / 0.9) - 2) == 2_048
    assert budget(round(need[2_048] / 0.9) - 2) == 1_024
    assert budget(0) == LEAST_TOKENS
    # Batches of 1,000 tokens fit whatever a forward could hold.
    assert budget(round(need[1_000] / 0.9) + 2, largest=1_000) == 4_096
    assert largest_budget(SHAPE, 0, keys=7, most=40, largest=10**9) == 40
