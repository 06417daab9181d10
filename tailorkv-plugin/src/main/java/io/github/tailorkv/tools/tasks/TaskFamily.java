package io.github.tailorkv.tools.tasks;

import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;

/** The families of tasks. */
public enum TaskFamily {
    /** A number hidden in five sentences that come again and again. */
    NEEDLE_NOISE("niah_noise", "needle in noise"),
    /** A number hidden in prose. */
    NEEDLE_ESSAY("niah_essay", "needle in prose"),
    /** A UUID hidden in prose. */
    NEEDLE_UUID("niah_uuid", "UUID in prose"),
    /** A number among nothing but other numbers, each with a key of two words. */
    MANY_NEEDLES("multikey_needles", "needle among needles"),
    /** A UUID among nothing but other UUIDs, each with a UUID as key. */
    MANY_UUIDS("multikey_uuid", "UUID among UUIDs"),
    /** Three numbers of one key. */
    MULTI_VALUE("multivalue", "many values of a key"),
    /** One number each of three keys. */
    MULTI_QUERY("multiquery", "many keys at once"),
    /** All variables that hold a value, through chains of assignments. */
    VARIABLES("vartrack", "variable tracking"),
    /** The words that come most often, all as often. */
    COMMON_WORDS("common_words", "common words"),
    /** The three most frequent words of a Zipf distribution, in order. */
    FREQUENT_WORDS("frequent_words", "frequent words"),
    /** A fact about one of many people. */
    FACTS("facts", "facts about people"),
    /** For any instruct model: a number in sentences that come again and again. */
    PASS_KEY("passkey", "pass key"),
    /** For any instruct model: one of six numbers in prose. */
    LOCKER("locker", "number in prose"),
    /** For any instruct model: three of six numbers in prose. */
    LOCKERS("lockers", "three numbers"),
    /** For any instruct model: all variables that hold a value, told in words. */
    TOLD_VARIABLES("told_variables", "variables"),
    /** For any instruct model: the five words that come most often in a list. */
    LISTED_WORDS("listed_words", "most frequent words");

    /** Name of the families that the reference model was trained on, in place of all their labels. */
    public static final String RULER = "ruler";

    /** Name of the families for any instruct model. */
    public static final String GENERIC = "generic";

    private final String label;
    private final String title;

    TaskFamily(String label, String title) {
        this.label = label;
        this.title = title;
    }

    /** The name on the command line and in results. */
    public String label() {
        return label;
    }

    /** Whether the tasks explain themselves, so that any instruct model may be asked. */
    public boolean isGeneric() {
        return compareTo(PASS_KEY) >= 0;
    }

    /** The name in charts. */
    public String title() {
        return title;
    }

    /** The families of a label, or of the name of a set; none if it is neither. */
    public static List<TaskFamily> labelled(String label) {
        return Arrays.stream(values())
                .filter(
                        family -> family.label.equals(label)
                                || label.equals(family.isGeneric() ? GENERIC : RULER))
                .toList();
    }

    /** All labels, for messages. */
    public static String labels() {
        return RULER + ", " + GENERIC + ", "
                + Arrays.stream(values()).map(TaskFamily::label).collect(Collectors.joining(", "));
    }
}
