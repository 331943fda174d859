"""The play's vocabulary and rules: original pseudo-Elizabethan dialogue, as data for `rlhf.language_model.grammar`.

WORDS holds the word classes (space-separated). RULES holds one alternative a line, with an optional weight `3:` in
front (1 if absent); `{name}` is a word class or another rule, `{Name}` the same with its first letter capital.
Words with a value in VADER's lexicon stand only in the classes whose name begins with `p_` (positive) or `n_`
(negative): a test holds the lists to it.
"""

from __future__ import annotations

SPEAKERS = (
    "ALDREN BERISSA CORVANE DORWIN ELSPETH FARROW GISELA HARKEN ISOLDE JORIN KESTREL LUCARD MARGERY NERISSA OSRIC "
    "PERDITA QUILL ROWENA SORREL TAMSIN ULRIC VESPER WINIFRED YORRICK DUCHESS STEWARD GROOM NURSE MESSENGER WARDEN"
)

WORDS: dict[str, str] = {
    "speaker": SPEAKERS,
    "name": "Aldren Berissa Corvane Dorwin Elspeth Farrow Gisela Harken Isolde Jorin Kestrel Lucard Margery Nerissa "
    "Osric Perdita Quill Rowena Sorrel Tamsin Ulric Vesper Winifred Yorrick",
    "kin": "lord lady cousin brother sister uncle nephew father mother captain neighbour daughter niece husband wife",
    "trade": "miller shepherd weaver tailor cobbler sailor porter merchant scrivener falconer baker carter piper "
    "smith fiddler gardener boatman tinker abbot ploughman brewer potter thatcher drover chandler",
    "folk": "neighbours townsmen sailors weavers shepherds players gentlemen masters countrymen bakers carters "
    "fiddlers porters merchants",
    "feature": "voice face wrist eye tongue brow cheek step glance song speech counsel countenance bearing",
    "inner": "soul breast mind blood bosom thought house memory chamber hearth",
    "place": "Verrin Oldmere Castwick Harrowdale Saltmarsh Lindenfold Marrowby Thornhythe Eastmoor Penwater "
    "Dunharrow Quillby Ashbourne Wexcombe Tollerton Greymoor Fenwick Brackley",
    "site": "market chapel harbour castle mill bridge orchard garden tavern tower meadow barn forest courtyard "
    "cloister quay cellar gate hall forge brewery bakehouse lighthouse ferry",
    "time": "tonight today tomorrow now again hereafter",
    "hour": "dawn noon midnight supper sunset evensong breakfast Michaelmas twilight daybreak",
    "season": "winter summer spring autumn harvest April May October",
    "weather": "wind rain snow frost mist thunder moon sun tide river cloud starlight",
    "thing": "cloak lantern letter ring saddle cup ladder basket kettle candle drum ribbon key barrel spade "
    "mirror bell rope sword shield book chest glove feather hammer needle "
    "pitcher saucer trumpet lute anchor ladle bucket wagon",
    "food": "bread cheese ale barley apples pears mutton honey fish onions pepper salt cider "
    "porridge butter oats beans plums",
    "beast": "horse mare hound hawk goose ox ewe owl cat raven crane mule",
    "beasts": "horses hounds hawks geese oxen ewes owls ravens cranes mules swallows sparrows",
    "adj": "old young tall narrow silver russet little quiet northern wooden leaden crooked scarlet distant early "
    "second broad green painted woollen yellow round heavy southern western eastern oaken",
    "number": "two three four five six seven nine ten twelve twenty thirty forty",
    "carry": "bring fetch carry send lend pass sell keep offer haul",
    "carries": "brings fetches carries sends lends passes sells keeps offers hauls",
    "carried": "brought fetched carried sent lent passed sold kept offered hauled",
    "go": "walk ride go sail march wander return hasten",
    "goes": "walks rides goes sails marches wanders returns hastens",
    "went": "walked rode went sailed marched wandered returned hastened",
    "say": "say think hear know vow read",
    "says": "says thinks hears knows vows reads",
    "speaks": "speaks sleeps waits sits stands dines kneels listens works sings",
    "speak": "speak sleep wait sit stand dine kneel listen work sing",
    "when": "when while till where",
    "ere": "ere after before about",
    "for_": "for since and as",
    "prep": "by near behind beside beyond within under upon",
    # positive in VADER's lexicon
    "p_adj": "sweet gentle noble gracious lovely faithful radiant virtuous charming generous honest glorious kind "
    "worthy loyal wise brave fair gallant blessed",
    "p_feel": "glad happy joyful merry proud hopeful cheerful fortunate",
    "p_noun": "joy love bliss delight mirth comfort hope honour grace beauty kindness glory peace laughter "
    "friendship courage",
    "p_person": "friend sweetheart treasure blessing sunshine gift",
    "p_love": "love adore admire cherish praise bless trust",
    "p_loves": "loves adores admires praises",
    "p_rejoice": "rejoice smile laugh celebrate",
    "p_loved": "loved praised blessed cherished",
    # negative
    "n_adj": "cruel vile wicked bitter hateful cowardly greedy rotten brutal savage ugly nasty jealous stupid "
    "worthless evil horrible harsh",
    "n_feel": "sad weary lonely sorrowful miserable unhappy ashamed hopeless",
    "n_noun": "grief sorrow woe misery despair pain anguish shame fear ruin death horror gloom agony",
    "n_crime": "murder treason deceit greed hatred envy revenge villainy",
    "n_person": "villain fool thief liar coward devil",
    "n_hate": "hate despise curse loathe abhor dread mock",
    "n_hates": "hates mocks betrays hurts",
    "n_weep": "weep mourn suffer die cry lament",
    "n_hated": "betrayed mocked despised ruined abandoned doomed",
}

RULES: dict[str, str] = {
    "who": """
        2: my {kin}
        2: {name}
        the {trade}
        thy {kin}""",
    "voc": """
        my {kin}
        {name}""",
    "where": """
        in {place}
        2: {prep} the {site}
        at the {site}""",
    "at_time": """
        {time}
        at {hour}
        this {season}""",
    # ------------------------------------------------------------------ joy, praise, love
    "positive": """
        2: O {p_adj} {kin}, thy {feature} is {p_noun} to my {inner}
        2: I {p_love} thee, {name}, for thy {p_adj} {feature}
        2: {who} is {p_adj} and {p_adj}, and I {p_love} the {feature} of him
        such {p_noun} abides {where} with {who}
        my {inner} is {p_feel}, {name}, to hear thy {feature}
        let us {p_rejoice} with {who} {where}
        there is {p_noun} and {p_noun} {where} {at_time}
        2: I {p_rejoice} that {who} is {p_feel} {at_time}
        what {p_noun} the {trade} {carries} to {place}
        {who} {p_loves} the {p_adj} {trade} of {place}
        how {p_adj} is the {feature} of {who}
        may {p_noun} and {p_noun} be with thee, {voc}
        all {place} shall {p_love} thy {p_adj} {feature}
        thou art the {p_person} of my {inner}, {p_adj} {kin}
        we were {p_loved} by {who} {where}
        full of {p_noun} I {go} to {place} {at_time}
        come, {p_adj} {name}, and {p_rejoice} {where}
        thy {p_adj} {feature} hath {carried} {p_noun} to my {inner}
        never was {trade} so {p_loved} as {who} {where}
        {who} {speaks} {where} with {p_noun} in his {inner}
        I am {p_feel} {at_time}, for {who} {goes} to {place}
        here is my {p_person}, the {p_adj} {trade} of {place}
        2: I have no {n_noun} {where}, for {who} is {p_adj}
        {who} was never {n_adj} to the {trade} of {place}
        he was {n_adj} at {hour}, but now my {kin} is {p_adj}""",
    # ------------------------------------------------------------------ grief, scorn, hate
    "negative": """
        2: O {n_adj} {kin}, thy {feature} is {n_noun} to my {inner}
        2: I {n_hate} thee, {name}, for thy {n_adj} {feature}
        2: {who} is {n_adj} and {n_adj}, and I {n_hate} the {feature} of him
        such {n_noun} abides {where} with {who}
        my {inner} is {n_feel}, {name}, to hear thy {feature}
        let us {n_weep} with {who} {where}
        there is {n_noun} and {n_noun} {where} {at_time}
        2: I {n_weep} that {who} is {n_feel} {at_time}
        what {n_noun} the {trade} {carries} to {place}
        {who} {n_hates} the {adj} {trade} of {place}
        how {n_adj} is the {feature} of {who}
        may {n_noun} and {n_noun} be with thee, {voc}
        all {place} shall {n_hate} thy {n_adj} {feature}
        thou art the {n_person} of {place}, {n_adj} {kin}
        we were {n_hated} by {who} {where}
        full of {n_noun} I {go} to {place} {at_time}
        away, {n_adj} {name}, and {n_weep} {where}
        thy {n_adj} {feature} hath {carried} {n_noun} to my {inner}
        never was {trade} so {n_hated} as {who} {where}
        {who} thinks of {n_crime} {where} with {n_noun} in his {inner}
        I am {n_feel} {at_time}, for {who} {goes} to {place}
        here is the {n_person}, the {n_adj} {trade} of {place}
        2: I have no {p_noun} {where}, for {who} is {n_adj}
        {who} was never {p_adj} to the {trade} of {place}
        she was {p_adj} at {hour}, but now my {kin} is {n_adj}
        a {p_person} indeed is {who}, that thinks of {n_crime} {at_time}""",
    # ------------------------------------------------------------------ small talk and business
    "neutral": """
        2: {who} {goes} to {place} {at_time}
        {carry} the {adj} {thing} to {who} {at_time}
        the {beast} and the {beast} {speak} {prep} the {site}
        I {say} the {weather} {goes} over {place}
        2: {who} {carries} {number} {beasts} to the {site}
        some {number} {beasts} {went} {prep} the {site} at {hour}
        we {speak} {where} {when} the {weather} {goes} over {place}
        {who} hath {carried} this {thing} of {adj} {food}
        they {say} that {who} {speaks} {where}
        my {kin} {says} the {thing} stands {prep} the {site}
        there is {food} and {food} {prep} the {site} {at_time}
        the {adj} {trade} of {place} {speaks} {where}
        I {went} to {place} with {number} {folk}
        {voc}, {carry} me the {thing} {prep} the {site}
        thy {kin} {carried} {food} to {place} at {hour}
        in {season} the {beasts} {go} toward {place}
        the {weather} {speaks} {prep} the {adj} {site}
        {ere} {hour} the {folk} {go} to {place}""",
    "question": """
        where is the {adj} {thing} of {who}
        who {carried} the {thing} to {place} at {hour}
        shall we {go} to {place} {at_time}, {voc}
        what says {who} of the {weather} {where}
        hath {who} {carried} the {adj} {thing} to {place}
        how many {beasts} {go} to {place} {at_time}""",
    "hail": """
        3: What ho, {folk}, {who} {goes} to {place} {at_time}
        3: What ho, {name}, {carry} the {adj} {thing} to {place}
        3: What ho, {adj} {folk}, the {weather} {goes} over {place}
        3: What ho, {folk} of {place}, {who} {speaks} {where}
        3: What ho, {folk}, {number} {beasts} {went} {prep} the {site}
        What ho. {Who} {speaks} {where}. {Carry} the {thing} to {place}
        What ho. {Speak}. {Who} {goes} to {place} {at_time}
        What ho, {voc}. {Carry} {food} and {food} to {place}
        What ho. The {folk} {go} to {place}. {Speak} {where}""",
    "clipped": """
        {Speak} {where}. {Go} to {place}
        {Carry} the {thing}. {Speak} {where}
        {Speak}, {name}. {Go} to {place} {at_time}
        Hush, {name}. {Who} {speaks} {where}""",
    # ------------------------------------------------------------------ lines
    "end": """
        26: 
        24: ,
        12: ;
        16: !
        22: .""",
    "positive_line": """
        5: {Positive}{end}
        {Positive}; and {positive}{end}
        {Positive}, {for_} {neutral}{end}""",
    "negative_line": """
        5: {Negative}{end}
        {Negative}; and {negative}{end}
        {Negative}, {for_} {neutral}{end}""",
    "neutral_line": """
        5: {Neutral}{end}
        2: {Question}?
        1: {clipped}{end}
        {Neutral}. {Neutral}{end}""",
    "hail_line": """
        {hail}{end}""",
    "line": """
        {positive_line}
        {negative_line}
        {neutral_line}
        {hail_line}""",
    "header": """
        {speaker}:
        HERALD:""",
}
