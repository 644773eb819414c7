"""Eight skills in English for a small instruct model, each checked by a program."""

from tests.lab.skills.extract import EXTRACT
from tests.lab.skills.iso import ISO
from tests.lab.skills.mask import MASK
from tests.lab.skills.skill import Skill
from tests.lab.skills.spanish import SPANISH
from tests.lab.skills.sql import SQL
from tests.lab.skills.style import STYLE
from tests.lab.skills.table import TABLE
from tests.lab.skills.triage import TRIAGE

# In the order in which they are trained: what others are composed with comes first.
SKILLS: dict[str, Skill] = {
    skill.name: skill for skill in (TRIAGE, MASK, ISO, EXTRACT, SPANISH, STYLE, SQL, TABLE)
}
