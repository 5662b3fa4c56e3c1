"""What columns tend to be called, in English and Chinese: the names by which a role is guessed."""

from __future__ import annotations

import re

_ID = r"( ?(id|ids|key|no|code|num|number|hash|sk|uuid|idx|index|编号|标识|号))?$"
_AFTER = r"(click|clk|like|hate|dislike|follow|comment|forward|share|favou?rite|fav|collect|cart|buy|bought|purchase|order"
_AFTER += r"|pay|paid|convert|conversion|download|install|subscribe|profile enter|upvote|vote|rating|rated|stars|finish"
_AFTER += r"|complete|completion|skip|watch|view|viewed|play|played|read|dwell|stay|long view|effective view|engage"
_AFTER += r"|feedback|response|liked|shared|点赞|收藏|购买|评论|转发|评分|加购|下单|完播)"

USER = (
    (r"^(user|uid|usr|member|customer|visitor|viewer|reader|buyer|reviewer|listener|用户|会员|读者|买家|访客)" + _ID, 3),
    (r"^(client|account|guest|person|profile|human|顾客|账号)" + _ID, 2),
    (r"^(device|cookie|session|设备)" + _ID, 1),
)
ITEM = (
    (r"^(item|iid|movie|video|photo|article|product|goods|sku|asin|song|track|book|news|商品|物品|视频|电影|文章|图书|内容"
     r"|歌曲|新闻|作品|笔记)" + _ID, 3),
    (r"^(music|post|doc|document|content|note|game|app|restaurant|poi|recipe|job|offer|listing|feed|clip|episode|course"
     r"|podcast|title|media|pin|tweet|story|hotel|property)" + _ID, 2),
    (r"^(business|shop|store|ad|creative|target|object|entity|campaign|artist|店铺|广告)" + _ID, 1),
)  # fmt: skip
TIME = (
    (r"^((event|log|request|click|impression|server|client|view|exposure|show|action|watch|play)? ?(timestamp|time|ts|datetime"
     r"|date time|at|time ms|time millis|unixtime|epoch)|unix time|unix timestamp|时间|时间戳|.*(曝光|点击|行为)时间)"
     r"( ?(ms|millis|s|sec|utc|local))?$", 3),
    (r"^((event|log)? ?date|day|dt|created( at)?|viewed at|clicked at|timestamp.*|review date|日期)$", 2),
)  # fmt: skip
CLICK = (
    (r"^((is|has|was|if|flag)? ?(click|clicked|clk|tapped|opened)( ?(flag|label|yn))?|(是否)?点击|.* (clicked|is click))$", 3),
    (r"^(label|target|y|response|interaction|标签)$", 1),
)
DURATION = (
    (r"(play|watch|dwell|read|stay|listen|view|viewing|consume|engage|engagement|attention|playing|reading|watching|visit)"
     r"(ed|ing)? ?(time|duration|seconds?|secs?|ms|msecs?|millis|milliseconds|minutes?|length)( ?(ms|s|sec|seconds?|millis))?$", 3),
    (r"(播放|停留|阅读|观看|收听)(时长|时间|秒数?|毫秒)", 3),
    (r"^(dwell|time spent|seconds|time on page|duration played)( ?(ms|s|sec))?$", 3),
    (r"^(duration|时长)( ?(ms|s|sec|seconds?))?$", 1),
)  # fmt: skip
CONVERSION = (
    (r"(buy|bought|purchase|purchased|order|ordered|pay|paid|conversion|convert|converted|购买|下单|支付|成交)", 4),
    (r"(like|liked|favou?rite|fav|collect|upvote|thumb|点赞|收藏|喜欢)", 3),
    (r"(cart|subscribe|follow|download|install|signup|long view|finish|complete|加购|关注|完播)", 2),
    (r"(share|shared|forward|comment|转发|评论|分享)", 1),
)
NOT_GOOD = r"(dislike|unlike|hate|skip|report|block|refund|cancel|不喜欢)"
"""no conversion: the contrary of one"""
REQUEST = (
    (r"^(request|req|impression|imp|slate|list|page view|pv|trace|search|query|serve|曝光|请求)( ?(id|key|no|uuid|hash|编号))$", 3),
    (r"^session( ?(id|key|no|uuid))?$|^会话", 1),
)
RATING = ((r"^(rating|score|stars?|star rating|overall|评分|打分)$", 3),)
BEHAVIOUR = ((r"^(behaviou?r|action|event|feedback|interaction|行为)( ?(type|name|kind|类型))?$", 3),)
KNOWN_AFTER = rf"^(is|has|was|if|是否)? ?{_AFTER}(ed)?( (flag|label|count|yn|s|type|ratio|rate|time|ms|seconds|duration|length|pct|percent))*$"
KNOWN_AFTER += r"|(watch|play|view|finish|completion|completed|read|scroll).*(ratio|rate|percent|pct|progress|depth|time|duration|seconds)|完播"
CONTEXT = r"(position|pos|rank|slot|hour|weekday|day of week|device|platform|os|browser|network|app version|tab|channel|scene|page|位置|设备|小时)"
NUMBER = r"(count|counts|cnt|num|number|price|amount|cost|age|days|day|hours|minutes|seconds|ms|length|size|duration|year|score|rate|ratio"
NUMBER += r"|price|distance|weight|height|position|pos|rank|views|likes|clicks|plays|total|avg|mean|sum|level|价格|数量|年龄|数|时长)"
SKEWED = r"(price|amount|cost|count|counts|cnt|num|number|position|pos|rank|views|likes|clicks|plays|total|sum|价格|数量|数)"
HISTORY = r"(history|hist|recent|last|past|previous|clicked|viewed|session|seq|sequence|历史|最近)"
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words(name: str) -> str:
    """A column's name as lower-case words: userId, user_id:token and User-ID are all `user id`; of a nested name the
    whole path."""
    bare = name.rsplit(":", 1)[0] if re.search(r":(token|float|token_seq|float_seq)$", name) else name
    split = _CAMEL.sub(" ", bare)
    return " ".join(re.sub(r"[^\w]+|_", " ", split).lower().split())


def by_name(name: str, patterns: tuple[tuple[str, int], ...]) -> int:
    """How well a name fits a role: 0 not at all, 3 or more surely."""
    text = words(name)
    last = text.rsplit(" ", 1)[-1] if "." in name else text
    return max((score for pattern, score in patterns if re.search(pattern, text) or re.search(pattern, last)), default=0)


def says(name: str, pattern: str) -> bool:
    """Whether one of the name's words is among the pattern's."""
    return re.search(rf"(^| |(?<=[^\x00-\x7f])){pattern}( |$|(?=[^\x00-\x7f]))", words(name)) is not None or bool(
        re.search(pattern, name) and not name.isascii()
    )


def is_known_after(name: str) -> bool:
    """Whether a name is of something that is known only after an exposure."""
    return re.search(KNOWN_AFTER, words(name)) is not None
