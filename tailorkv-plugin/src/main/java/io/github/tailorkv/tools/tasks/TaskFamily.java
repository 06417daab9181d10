package io.github.tailorkv.tools.tasks;

import java.util.Arrays;
import java.util.List;
import java.util.Optional;
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
    FACTS("facts", "facts about people");

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

    /** The name in charts. */
    public String title() {
        return title;
    }

    /** The family of that label. */
    public static Optional<TaskFamily> labelled(String label) {
        return Arrays.stream(values()).filter(family -> family.label.equals(label)).findFirst();
    }

    /** All labels, for messages. */
    public static String labels() {
        return List.of(values()).stream().map(TaskFamily::label).collect(Collectors.joining(", "));
    }
}
