"""The signs, abbreviations and scripts that splitting knows, as patterns."""

from __future__ import annotations

import re

LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"

EAST_ASIAN = (  # ideographs and kana: no space between words, nor after a full-width sign
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u30ff\u3100-\u312f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
SOUTH_EAST_ASIAN = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Khmer: no space either

# Signs that need no space after them.
FULL_WIDTH_STOPS = "。！？｡．"
FULL_WIDTH_PAUSES = "，、；：､"
STOPS = FULL_WIDTH_STOPS + "؟۔।॥։።፧။។៕"
PAUSES = FULL_WIDTH_PAUSES + "،؛፣፤፥፦၊།"

_ASCII_CLOSERS = r"[\"'”’“»›)\]}*_`]*(?:[ \u00a0\u202f]»(?=\s|$))?"  # “ and » close in German and French
_FULL_CLOSERS = r"(?:[」』”’）】〕》〉)\]]|[\"'](?!\w))*"

MARK = re.compile(
    rf"(?:(?P<ascii>\.(?:[ \u00a0]\.(?!\d))+|[.!?…,;:]+){_ASCII_CLOSERS}"
    rf"|(?P<unspaced>[{STOPS}{PAUSES}]+){_FULL_CLOSERS}"
    rf"|[{LINE_BREAKS}])(?P<space>\s*)"
)
LINE_BREAK = re.compile(f"[{LINE_BREAKS}]")
BRACKET = re.compile(rf"<<|>>|[()\[\]{{}}（）【】〔〕{LINE_BREAKS}]")
CLOSING = {"(": ")", "[": "]", "{": "}", "（": "）", "【": "】", "〔": "〕", "<<": ">>"}
NEXT_WORD = re.compile(r"[\"'“‘«‹„¿¡(\[*_`]{0,4}(\w{0,12}\.?)")

# What stands before a full stop that ends no sentence. Looked for in the few characters before the stop.
TITLES = re.compile(
    r"(?<![\w.])(?:[Mm]rs?|M[sx]|[Dd]r|[Pp]rof|Messrs|Mme|Mlle|St|Mt|Ft|Sgt|Capt|Lt|Col|Gen|Rev|Hon|Gov|Sen|Rep"
    r"|[Vv]s|[Cc]f|[Vv]iz|[Ee]\.[Gg]|[Ii]\.[Ee]|[Ee]g|[Aa]pprox)$"
)
FOR_INSTANCE = re.compile(r"(?<![\w.])(?:[Ee]\.?[Gg]|[Ii]\.?[Ee]|[Vv]iz|[Cc]f)$")
BEFORE_NUMBERS = re.compile(
    r"(?<![\w.])(?:Nos?|[Ff]igs?|[Ee]qs?|[Ee]qn|[Ss]ect?|[Cc]hap|[Cc]h|[Vv]ols?|[Rr]ef|[Tt]el|pp?|ca|[Ee]x"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)$"
)
BEFORE_MORE = re.compile(  # these may end a sentence too: a capital follows them then
    r"(?<![\w.])(?:etc|al|[Jj]r|[Ss]r|Inc|Ltd|Co|Corp|Ave|Blvd|[Dd]ept|[Mm]isc|Ph\.D|[AP]\.M"
    r"|sq|sq\.ft|ft|oz|lbs?|hrs?|mins?|secs?|yds?|qts?|pts?|tsp|tbsp|mph|avg|(?<=\d\s)in)$"
)
DOTTED = re.compile(r"(?<![\w.'’])(?:[^\W\d_]\.)*[^\W\d_]$")  # U.S, a.m, J
STARTERS = re.compile(  # words that begin a sentence, not a name
    r"(?:The|He|She|It|They|We|You|I|His|Her|Its|Their|My|Our|This|That|These|Those|There|Here|Then|Thus|So|Therefore"
    r"|Hence|But|And|Or|If|In|On|At|As|An|When|While|Since|Because|For|From|To|With|After|Before|Now|Next|Finally"
    r"|However|Also|Both|First|Second|Each|Every|All|Only|One|Two|What|How|Who|Where|Why|Which|Is|Are|Let|By|Not"
    r"|Although|Of|Out|Adding|Using)$"
)
LABEL = re.compile(r"[\s\W_]*(?:(?i:step|part|case|question|q)\s+)?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{2,4})")  # "1", "Step 2"
