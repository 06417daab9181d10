package io.github.tailorkv.tools.tasks;

import java.util.Arrays;
import java.util.List;

/** The words that texts are made of: those that the reference model was trained with. */
final class Lexicon {

    /** Adjectives, also the first half of a key. */
    static final List<String> ADJECTIVES = words("""
        amber ancient arctic autumn bitter bold brave bright brisk bronze calm careful clever cold copper coral cosmic
        crimson crystal curious daring dark dusty eager early electric emerald faint fancy fearless fierce foggy frozen
        gentle giant golden grand green happy hidden hollow humble icy idle ivory jade jolly keen kind late lazy little
        lively lonely lucky lunar mellow merry mighty misty modern noble northern odd olive orange pale patient polite
        proud purple quick quiet rapid rare red restless rough royal ruby rusty sandy scarlet secret sharp shiny silent
        silver sleepy slow smooth snowy solar solemn spare steady stormy strange sudden sunny swift tall tame tender
        tidy tiny vast velvet violet warm wild windy winter wise wooden yellow young zesty
        """);

    /** Nouns, also the second half of a key. */
    static final List<String> NOUNS = words("""
        acorn anchor apple arrow badger banner barrel basin beacon bear bell bishop blanket boat bottle bridge bucket
        cabin candle canyon castle cedar chapel cherry cliff clock cloud comet compass cottage cradle crane creek crown
        dagger daisy desert diamond dolphin dragon drum eagle engine falcon feather fern field fiddle flame forest
        fossil fountain fox garden gate glacier goose grove hammer harbor hawk helmet heron hill horse island ivy jacket
        jaguar kettle kite ladder lagoon lantern leaf lemon lily lion lizard magnet maple marble meadow mirror mole moon
        moss mountain needle nest oak oasis ocean orchard otter owl paddle palace panther parrot peach pebble pepper
        piano pigeon pillow pine planet plum pocket pond puma quarry rabbit raven ribbon river robin rocket saddle sail
        salmon scarf shadow shell shield spider spoon spring squid stable statue stone sword table temple thistle throne
        tiger timber tower trail tunnel turtle valley vessel village violin wagon walnut water whale wheel window wolf
        """);

    /** Verbs in the past tense that take an object. */
    static final List<String> VERBS = words("""
        crossed followed watched painted carried guarded visited reached measured lifted opened circled repaired
        sketched described avoided admired counted covered passed
        """);

    /** Places with their article. */
    static final List<String> PLACES = phrases("""
        the market| the old mill| the north gate| the library| the station| the river bank| the town square| the museum|
        the harbor wall| the bakery| the school yard| the long bridge| the hill top| the post office| the lower field
        """);

    /** Openings of a sentence. */
    static final List<String> TIMES = phrases("""
        In the morning| At noon| Late at night| After the rain| Before dawn| On market day| During the feast|
        In early spring| At the end of the week| When the bells rang| Some years ago| That same evening
        """);

    /** First names. */
    static final List<String> FIRST_NAMES = words("""
        Ada Alan Alice Amir Anna Arlo Beth Boris Carla Cora Dana Diego Edith Elena Emil Erik Esther Felix Fiona Freya
        George Greta Hana Hugo Ida Igor Irene Ivan Jack Jana Joel Julia Karl Kira Lars Laura Leo Lena Lucas Lydia Maja
        Marco Maria Max Mila Mona Nadia Nils Nina Noah Nora Olga Omar Oscar Otto Paul Petra Pia Quinn Rafa Rita Rosa
        Ruth Sam Sara Simon Sofia Stella Sven Tara Theo Tina Tom Uma Vera Victor Wanda Will Xena Yara Yuri Zara Zeno
        """);

    /** Last names. */
    static final List<String> LAST_NAMES = words("""
        Abbott Baker Barnes Becker Bloom Brandt Brook Carver Castro Cole Cruz Dalton Drake Eriksen Falk Finch Fischer
        Ford Frost Garcia Gibson Grant Gray Hale Hansen Hart Hayes Hill Holm Hunt Iversen Jensen Keller Klein Knight
        Lang Larsen Lind Lopez Marsh Mercer Meyer Moore Nash Novak Olsen Ortiz Page Palmer Park Petrov Price Quist Reed
        Rivera Rossi Rowe Santos Schmidt Shaw Silva Stone Torres Vance Vega Wagner Walsh Weber West Winter Wolf Young
        """);

    /** Cities. */
    static final List<String> CITIES = words("""
        Athens Austin Bergen Berlin Bogota Boston Cairo Chicago Dakar Delhi Denver Dublin Geneva Hanoi Helsinki Jakarta
        Kyoto Lagos Lima Lisbon London Madrid Manila Miami Milan Munich Nairobi Naples Oslo Ottawa Paris Perth Prague
        Quito Riga Rome Seoul Sofia Sydney Tokyo Tunis Turin Vienna Warsaw Zurich
        """);

    /** Jobs. */
    static final List<String> JOBS = phrases("""
        baker| carpenter| chemist| dentist| doctor| driver| editor| farmer| fisher| gardener| geologist| judge| lawyer|
        librarian| mason| mechanic| musician| nurse| painter| pilot| plumber| potter| sailor| singer| surgeon| tailor|
        teacher| weaver| writer
        """);

    /** Things to eat. */
    static final List<String> FOODS = words("""
        apples bread cheese cherries dates figs grapes honey lentils mangoes mushrooms noodles olives onions oranges
        pasta peaches pears plums potatoes rice salmon soup spinach tomatoes trout
        """);

    /** The haystack of noise, in this order again and again. */
    static final List<String> FILLER = phrases("""
        The road bends gently past the houses.| A light wind moves the tall reeds.| Nothing much happens here.|
        The lamps are lit and the doors are shut.| People come and people go.
        """);

    private Lexicon() {}

    private static List<String> words(String text) {
        return List.of(text.strip().split("\\s+"));
    }

    private static List<String> phrases(String text) {
        return Arrays.stream(text.strip().split("\\|")).map(phrase -> phrase.strip().replaceAll("\\s+", " ")).toList();
    }
}
