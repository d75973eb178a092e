"""The words of the made-up shop: categories, brands, colors, and how shoppers' words differ from the catalogue's."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """A leaf of the category tree. `synonyms` are words that shoppers type and titles never use."""

    department: str
    name: str
    nouns: tuple[str, ...]
    synonyms: tuple[str, ...]
    materials: tuple[str, ...]
    sizes: tuple[float, ...]
    unit: str
    features: tuple[str, str]
    other_unit: tuple[str, float] = ("", 1.0)  # another unit, and how many of it one `unit` is
    target: str = ""  # accessories: name of the category whose models they fit
    has_models: bool = False

    @property
    def shopper_words(self) -> tuple[str, ...]:
        return self.nouns + self.synonyms


SOLE = ("mesh", "leather", "canvas")
POT = ("steel", "aluminum", "enamel")
SHELL = ("plastic", "metal", "silicone")
CLOTH = ("cotton", "polyester", "wool")

CATEGORIES = (
    Category("Footwear", "Running Shoes", ("running shoes",), ("sneakers", "trainers"), SOLE, (4, 8, 12), "mm", ("laces", "reflectors")),
    Category(
        "Footwear", "Hiking Boots", ("hiking boots",), ("trekking footwear", "mountain shoes"), SOLE, (6, 12, 18), "cm", ("laces", "lining")
    ),
    Category("Footwear", "Sandals", ("sandals",), ("flip flops", "beach shoes"), SOLE, (2, 4, 6), "cm", ("buckle", "heel strap")),
    Category(
        "Kitchen", "Saucepans", ("saucepan",), ("cooking pot", "milk pan"), POT, (16, 18, 20), "cm", ("lid", "coating"), ("mm", 10)
    ),
    Category("Kitchen", "Frying Pans", ("frying pan",), ("skillet", "omelette maker"), POT, (8, 10, 12), "inch", ("lid", "coating")),
    Category(
        "Kitchen", "Water Bottles", ("drinking bottle",), ("flask", "canteen"), SHELL, (350, 500, 750), "ml", ("straw", "strap"),
        ("l", 0.001),
    ),
    Category(
        "Kitchen", "Coffee Machines", ("coffee machine",), ("espresso maker", "brewer"), SHELL, (1, 2, 3), "l", ("timer", "frother"),
        ("ml", 1000),
    ),
    Category("Kitchen", "Food Containers", ("food container",), ("lunch box", "bento"), SHELL, (400, 800, 1200), "ml", ("lid", "divider")),
    Category(
        "Kitchen", "Tumblers", ("tumbler set",), ("drinkware", "cups"), ("crystal", "acrylic"), (200, 300, 400), "ml", ("stem", "rim")
    ),
    Category(
        "Electronics", "Smartphones", ("smartphone",), ("cell phone", "mobile"), ("ceramic", "titanium"), (64, 128, 256), "gb",
        ("headphone jack", "fingerprint reader"), has_models=True,
    ),
    Category(
        "Electronics", "Laptops", ("laptop",), ("portable computer", "ultrabook"), ("aluminum", "carbon"), (13, 14, 16), "inch",
        ("touchscreen", "backlight"), has_models=True,
    ),
    Category(
        "Electronics", "Computer Mice", ("computer mouse",), ("pointing device", "clicker"), SHELL, (800, 1600, 3200), "dpi",
        ("cord", "side buttons"),
    ),
    Category(
        "Electronics", "Displays", ("desktop display",), ("computer screen", "lcd"), SHELL, (22, 27, 32), "inch", ("speakers", "stand"),
        ("cm", 2.54),
    ),
    Category(
        "Electronics", "Headphones", ("headphones",), ("headset", "earphones"), SHELL, (10, 20, 40), "h", ("microphone", "cord")
    ),
    Category(
        "Accessories", "Phone Cases", ("protective case",), ("cover", "bumper"), SHELL, (1, 2, 3), "mm", ("ring holder", "flap"),
        target="Smartphones",
    ),
    Category(
        "Accessories", "Phone Chargers", ("wall charger",), ("power adapter", "plug"), SHELL, (20, 30, 65), "w", ("cable", "display"),
        target="Smartphones",
    ),
    Category(
        "Accessories", "Laptop Sleeves", ("laptop sleeve",), ("carry bag", "pouch"), CLOTH, (13, 14, 16), "inch", ("handle", "zipper"),
        target="Laptops",
    ),
    Category("Pets", "Cat Toys", ("plush cat toy",), ("kitten plaything", "feline teaser"), CLOTH, (5, 8, 12), "cm", ("catnip", "bell")),
    Category("Pets", "Dog Beds", ("dog bed",), ("puppy cushion", "canine mattress"), CLOTH, (60, 80, 100), "cm", ("zipper", "rim")),
    Category(
        "Office", "Paper Journals", ("ruled journal",), ("diary", "writing pad"), ("leather", "kraft", "linen"), (80, 120, 200), "pages",
        ("spiral", "elastic band"),
    ),
    Category("Office", "Desk Lamps", ("desk lamp",), ("reading light", "luminaire"), SHELL, (5, 8, 12), "w", ("dimmer", "usb port")),
    Category(
        "Office", "Swivel Chairs", ("swivel chair",), ("office seat", "task stool"), ("mesh", "leather", "fabric"), (100, 120, 150), "kg",
        ("armrests", "headrest"), ("lb", 2.2),
    ),
    Category(
        "Baby", "Baby Cameras", ("nursery camera",), ("infant watcher", "sleep cam"), SHELL, (3, 5, 7), "inch", ("battery", "speaker")
    ),
    Category(
        "Baby", "Strollers", ("stroller",), ("pushchair", "buggy"), ("aluminum", "steel"), (15, 22, 30), "kg", ("canopy", "basket"),
        ("lb", 2.2),
    ),
    Category(
        "Outdoor", "Tents", ("camping tent",), ("shelter", "canopy house"), ("nylon", "polyester"), (2, 3, 4), "person", ("porch", "window")
    ),
    Category("Outdoor", "Sleeping Bags", ("sleeping bag",), ("bivvy", "quilted cocoon"), CLOTH, (180, 200, 220), "cm", ("hood", "zipper")),
    Category(
        "Outdoor", "Exercise Mats", ("exercise mat",), ("yoga pad", "gym rug"), ("rubber", "cork", "foam"), (4, 6, 10), "mm",
        ("strap", "markings"),
    ),
    Category(
        "Personal Care", "Reading Spectacles", ("reading spectacles",), ("eyewear", "readers"), ("acetate", "titanium"), (100, 200, 300),
        "dioptre", ("case", "rim"),
    ),
)  # fmt: skip
NAMES = tuple(category.name for category in CATEGORIES)
DEPARTMENTS = tuple(dict.fromkeys(category.department for category in CATEGORIES))

# One word, two categories: most shoppers mean the first.
AMBIGUOUS = (
    ("mouse", "Computer Mice", "Cat Toys"),
    ("notebook", "Laptops", "Paper Journals"),
    ("monitor", "Baby Cameras", "Displays"),
    ("glasses", "Reading Spectacles", "Tumblers"),
    ("charger", "Phone Chargers", "Desk Lamps"),
    ("mat", "Exercise Mats", "Dog Beds"),
)

# What shoppers call a color, then the shades that titles and the `color` column use.
COLORS = (
    ("black", "black", "onyx"),
    ("white", "white", "ivory"),
    ("gray", "gray", "charcoal"),
    ("red", "red", "crimson"),
    ("blue", "blue", "navy"),
    ("green", "green", "olive"),
    ("brown", "brown", "walnut"),
    ("pink", "pink", "blush"),
)

BRANDS = (
    "Alvera", "Bronto", "Calisse", "Dorvane", "Elmar", "Fjordik", "Galvo", "Hestra", "Ilvane", "Jorvik", "Kelmo", "Lumeo", "Marrow",
    "Norvik", "Oberon", "Pellar", "Quintis", "Rovina", "Solvei", "Tavira", "Umbra", "Vantis", "Wexley", "Xandor", "Yarrow", "Zephra",
    "Ardent", "Brisk", "Corvo", "Drift", "Ember", "Fenwick", "Gusto", "Harrow", "Ivo", "Juno", "Kestrel", "Larkin", "Mirabel", "Nimbus",
)  # fmt: skip
BRANDS_PER_DEPARTMENT = 5
MODEL_WORDS = ("Nova", "Aero", "Orbit", "Vento", "Luma", "Pixa")
USES = ("daily use", "travel", "the home", "work", "gifts", "weekends")
