"""What attention is told of where and when events are.

Shapes: B batch, L length, H heads, E width of a head.
"""

import math

import torch
from torch import Tensor, nn

DISTANCE_BUCKETS = 32
TIME_BUCKETS = 64


class DistanceBias(nn.Module):
    """A learnt bias on the distance between query and key, in logarithmic buckets.

    T5, Raffel et al. 2020, arXiv:1910.10683, section 2.1. Left padding changes nothing, and any
    length can be read.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(DISTANCE_BUCKETS, heads))

    def forward(self, length: int) -> Tensor:
        """[H, L, L], of query and key."""
        distance_LL = distances(length, self.weight.device).clamp(min=0)
        return self.weight[distance_bucket(distance_LL)].permute(2, 0, 1)


class TimeBias(nn.Module):
    """A learnt bias on the time between query and key, in logarithmic buckets.

    Bucket ⌊ln(1 + |Δt| s) / 0.301⌋, after HSTU (Zhai et al. 2024, arXiv:2402.17152, section 3.2);
    its published code takes ln(max(1, |Δt|)), and the time of the event after the query, which
    nobody knows who asks for that event. The last bucket is for events whose time is not known.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(TIME_BUCKETS + 1, heads))

    def forward(self, times_BL: Tensor, last_only: bool = False) -> Tensor:
        """[B, H, L, L], of query and key; [B, H, 1, L], of the last query, with `last_only`.

        `times_BL`: int64 seconds, 0 where unknown. Integers are subtracted: in float32 seconds
        since 1970 are two minutes apart.
        """
        query_BL = times_BL[:, -1:] if last_only else times_BL
        gap_BLL = (query_BL[:, :, None] - times_BL[:, None, :]).abs()
        bucket_BLL = (torch.log1p(gap_BLL.float()) / 0.301).long().clamp(max=TIME_BUCKETS - 1)
        both_BLL = (query_BL > 0)[:, :, None] & (times_BL > 0)[:, None, :]
        bucket_BLL = torch.where(both_BLL, bucket_BLL, TIME_BUCKETS)
        return self.weight[bucket_BLL].permute(0, 3, 1, 2)


def distances(length: int, device: torch.device) -> Tensor:
    """How far a key is behind a query, int64 [L, L]; below 0 it is ahead."""
    position = torch.arange(length, device=device)
    return position[:, None] - position[None, :]


def distance_bucket(distance: Tensor, exact: int = 16, farthest: int = 512) -> Tensor:
    """Buckets 0..DISTANCE_BUCKETS-1 of distances >= 0: one each below `exact`, then logarithmic."""
    scale = (DISTANCE_BUCKETS - exact) / math.log(farthest / exact)
    coarse = exact + (torch.log(distance.clamp(min=exact) / exact) * scale).long()
    return torch.where(distance < exact, distance, coarse.clamp(max=DISTANCE_BUCKETS - 1))


def visible(length: int, known_BL: Tensor | None, device: torch.device) -> Tensor:
    """Which keys a query sees, bool [B or 1, 1, L, L]: itself, and what is known before it.

    A padding position sees itself: a softmax over nothing would be NaN.
    """
    distance_LL = distances(length, device)
    if known_BL is None:
        return (distance_LL >= 0)[None, None]
    return ((distance_LL >= 0) & known_BL[:, None, None, :]) | (distance_LL == 0)


def visible_to_last(length: int, known_BL: Tensor | None, device: torch.device) -> Tensor:
    """`visible` of the last query alone, bool [B or 1, 1, 1, L]."""
    last_L = torch.arange(length, device=device) == length - 1
    if known_BL is None:
        return torch.ones_like(last_L)[None, None, None]
    return (known_BL | last_L)[:, None, None]


def rotate(x_BHLE: Tensor, start: int = 0) -> Tensor:
    """Queries or keys turned by their position, from `start`: products then know distances alone.

    RoPE, Su et al. 2021, arXiv:2104.09864, equation 34, with halves for pairs.
    """
    length, width = x_BHLE.shape[-2:]
    half = torch.arange(0, width, 2, device=x_BHLE.device)
    position_L1 = torch.arange(start, start + length, device=x_BHLE.device)[:, None]
    angle_LE = position_L1 * 10_000.0 ** (-half / width)
    cosine_LE, sine_LE = angle_LE.cos().to(x_BHLE.dtype), angle_LE.sin().to(x_BHLE.dtype)
    first, second = x_BHLE.chunk(2, dim=-1)
    return torch.cat(
        [first * cosine_LE - second * sine_LE, first * sine_LE + second * cosine_LE], dim=-1
    )
