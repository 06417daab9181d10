package io.github.tailorkv.tools.tasks;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntFunction;
import java.util.stream.Collectors;

/**
 * Makes tasks of a given length in tokens of a given model. Each is one turn: an instruction, a text, a line break and a
 * question. In the families after RULER the distributions (how many keys, hops, words, and how often) are those that the
 * reference model was trained on, so that its accuracy means something.
 */
public final class TaskGenerator {
    private static final String INTRODUCTION = "Read this text and remember its details.";

    /** What the chat template, the instruction, the question and the answer take. */
    private static final int OVERHEAD = 48 + 2 * 40;

    /** The least length: shorter texts have no room for what is to be found. */
    public static final int LEAST_TOKENS = 256;

    private final TokenCounter counter;
    private final Map<String, Integer> known = new HashMap<>();

    /** @param counter of the model that will read the tasks */
    public TaskGenerator(TokenCounter counter) {
        this.counter = counter;
    }

    /**
     * One task.
     *
     * @param tokens length of the prompt, approximately and never much more; at least {@link #LEAST_TOKENS}
     * @param index number of the task among those of its family and length
     */
    public Task task(TaskFamily family, int tokens, long seed, int index) {
        if (tokens < LEAST_TOKENS) {
            throw new IllegalArgumentException("a task takes at least " + LEAST_TOKENS + " tokens, not " + tokens);
        }
        Draw draw = new Draw(mixed(seed, family.label().hashCode(), tokens, index));
        int room = tokens - OVERHEAD;
        return switch (family) {
            case NEEDLE_NOISE -> needle(draw, room, false, i -> " " + noise(i));
            case NEEDLE_ESSAY -> needle(draw, room, false, i -> draw.sentence());
            case NEEDLE_UUID -> needle(draw, room, true, i -> draw.sentence());
            case MANY_NEEDLES -> amongNeedles(draw, room, false);
            case MANY_UUIDS -> amongNeedles(draw, room, true);
            case MULTI_VALUE -> multiValue(draw, room);
            case MULTI_QUERY -> multiQuery(draw, room);
            case VARIABLES -> variables(draw, room);
            case COMMON_WORDS -> commonWords(draw, room);
            case FREQUENT_WORDS -> frequentWords(draw, room);
            case FACTS -> facts(draw, room);
            case PASS_KEY -> new Instructions(draw, this::count).passKey(room, -1);
            case LOCKER -> new Instructions(draw, this::count).lockers(room, 1);
            case LOCKERS -> new Instructions(draw, this::count).lockers(room, 3);
            case TOLD_VARIABLES -> new Instructions(draw, this::count).variables(room);
            case LISTED_WORDS -> new Instructions(draw, this::count).commonWords(room);
        };
    }

    /**
     * A needle at a chosen depth of a prose haystack, for the grid of depths and lengths.
     *
     * @param depth 0 for the beginning of the text, 1 for its end
     */
    public Task needleAt(double depth, int tokens, long seed, int index) {
        Draw draw = new Draw(mixed(seed, 1000 + (int) Math.round(1000 * depth), tokens, index));
        String key = draw.key();
        String number = draw.number();
        String needle = needle("number", key, number);
        List<String> hay = haystack(tokens - OVERHEAD - count(needle), i -> draw.sentence());
        hay.add((int) Math.round(depth * hay.size()), needle);
        return task(hay, "What is the secret number of " + key + "?", List.of(number));
    }

    /**
     * A pass key at a chosen depth, for the grid of depths and lengths of any instruct model.
     *
     * @param depth 0 for the beginning of the text, 1 for its end
     */
    public Task passKeyAt(double depth, int tokens, long seed, int index) {
        Draw draw = new Draw(mixed(seed, 3000 + (int) Math.round(1000 * depth), tokens, index));
        return new Instructions(draw, this::count).passKey(tokens - OVERHEAD, depth);
    }

    /** Independent seeds for neighbouring tasks (the finalizer of MurmurHash3). */
    private static long mixed(long... parts) {
        long hash = 0;
        for (long part : parts) {
            hash = hash * 0x9E3779B97F4A7C15L + part;
            hash = (hash ^ (hash >>> 33)) * 0xFF51AFD7ED558CCDL;
            hash = (hash ^ (hash >>> 33)) * 0xC4CEB9FE1A85EC53L;
            hash ^= hash >>> 33;
        }
        return hash;
    }

    // ---- families --------------------------------------------------------------------------------------------------

    private Task needle(Draw draw, int room, boolean uuids, IntFunction<String> haystack) {
        String kind = uuids ? "code" : "number";
        List<String> keys = draw.distinct(draw.coin() ? 2 : 6, draw::key);
        List<String> values = keys.stream().map(key -> uuids ? draw.uuid() : draw.number()).toList();
        List<String> needles = new ArrayList<>();
        for (int i = 0; i < keys.size(); i++) {
            needles.add(needle(kind, keys.get(i), values.get(i)));
        }
        int asked = draw.below(keys.size());
        return task(
                hidden(draw, room, needles, haystack), "What is the secret " + kind + " of " + keys.get(asked) + "?",
                List.of(values.get(asked)));
    }

    private Task amongNeedles(Draw draw, int room, boolean uuids) {
        String kind = uuids ? "code" : "number";
        String example = needle(kind, uuids ? draw.uuid() : draw.key(), uuids ? draw.uuid() : draw.number());
        int count = Math.max(2, room / (count(example) + 1));
        // There are only so many pairs of words.
        int most = uuids ? count : Lexicon.ADJECTIVES.size() * Lexicon.NOUNS.size() / 2;
        List<String> keys = draw.distinct(Math.min(count, most), uuids ? draw::uuid : draw::key);
        List<String> values = keys.stream().map(key -> uuids ? draw.uuid() : draw.number()).toList();
        List<String> text = new ArrayList<>();
        for (int i = 0; i < keys.size(); i++) {
            text.add(needle(kind, keys.get(i), values.get(i)));
        }
        draw.shuffle(text);
        while (total(text) > room && text.size() > 2) {
            text.removeLast();
        }
        List<Integer> present = new ArrayList<>();
        for (int i = 0; i < keys.size(); i++) {
            if (text.contains(needle(kind, keys.get(i), values.get(i)))) {
                present.add(i);
            }
        }
        int asked = draw.of(present);
        return task(text, "What is the secret " + kind + " of " + keys.get(asked) + "?", List.of(values.get(asked)));
    }

    private Task multiValue(Draw draw, int room) {
        List<String> keys = draw.distinct(6, draw::key);
        List<String> needles = new ArrayList<>();
        List<String> asked = new ArrayList<>();
        for (String key : keys) {
            for (int i = 0; i < 3; i++) {
                String number = draw.number();
                needles.add(needle("number", key, number));
                if (needles.size() <= 3) {
                    asked.add(number);
                }
            }
        }
        List<String> text = hidden(draw, room - 60, needles, i -> draw.sentence());
        return task(text, "What are all the secret numbers of " + keys.getFirst() + "?", asked);
    }

    private Task multiQuery(Draw draw, int room) {
        Map<String, String> numbers = new HashMap<>();
        List<String> keys = draw.distinct(6, draw::key);
        List<String> needles = new ArrayList<>();
        for (String key : keys) {
            numbers.put(key, draw.number());
            needles.add(needle("number", key, numbers.getOrDefault(key, "")));
        }
        List<String> text = hidden(draw, room - 60, needles, i -> draw.sentence());
        List<String> asked = draw.sample(keys, 3);
        String question = "What are the secret numbers of " + asked.get(0) + ", " + asked.get(1) + " and "
                + asked.get(2) + "?";
        return task(text, question, asked.stream().map(key -> numbers.getOrDefault(key, "")).toList());
    }

    private Task variables(Draw draw, int room) {
        int chains = 2;
        int links = 1 + 2 + draw.below(3);
        List<String> names = draw.distinct(chains * links, draw::variable);
        List<String> values = draw.distinct(chains, draw::variableValue);
        boolean noise = draw.coin();
        List<String> text = haystack(room - 14 * chains * links, i -> noise ? " " + noise(i) : draw.sentence());
        // Each chain is assigned in its order, the chains mixed: a random place for every line, then who gets which.
        int[] places = new int[chains * links];
        List<Integer> turns = new ArrayList<>();
        for (int i = 0; i < places.length; i++) {
            places[i] = draw.below(text.size() + 1);
            turns.add(i % chains);
        }
        java.util.Arrays.sort(places);
        draw.shuffle(turns);
        int[] done = new int[chains];
        for (int i = 0; i < places.length; i++) {
            int chain = turns.get(i);
            int link = done[chain]++;
            String name = names.get(chain * links + link);
            String line = link == 0
                    ? " VAR " + name + " = " + values.get(chain) + "."
                    : " VAR " + name + " = VAR " + names.get(chain * links + link - 1) + ".";
            text.add(places[i] + i, line);
        }
        int asked = draw.below(chains);
        return task(
                text, "Which variables hold the value " + values.get(asked) + "?",
                names.subList(asked * links, (asked + 1) * links));
    }

    private Task commonWords(Draw draw, int room) {
        List<String> words = draw.distinct(Math.max(12, room / 18), () -> draw.pseudoWord(draw.coin() ? 2 : 3));
        List<String> common = words.subList(0, 4);
        List<String> bag = new ArrayList<>();
        for (String word : words) {
            bag.addAll(Collections.nCopies(common.contains(word) ? Math.max(6, room / 40) : 2, " " + word));
        }
        return task(fitted(draw, bag, room), "Which four words are the most common?", common);
    }

    private Task frequentWords(Draw draw, int room) {
        List<String> words = draw.distinct(Math.max(20, room / 50), () -> draw.pseudoWord(3));
        List<String> bag = new ArrayList<>();
        for (int rank = 1; rank <= words.size(); rank++) {
            int times = (int) (room / 5.5 / ((double) rank * rank) / 1.645);
            bag.addAll(Collections.nCopies(Math.max(1, times), " " + words.get(rank - 1)));
        }
        return task(
                fitted(draw, bag, room), "Which three words are the most frequent, from most to least?",
                words.subList(0, 3));
    }

    private Task facts(Draw draw, int room) {
        int[] counts = {2, 4, Math.max(2, Math.min(120, room / 60))};
        List<String> people = draw.distinct(counts[draw.below(3)], draw::person);
        String who = draw.of(people);
        int which = draw.below(3);
        List<String> sentences = new ArrayList<>();
        String answer = "";
        for (String person : people) {
            List<String> facts = List.of(
                    draw.of(Lexicon.CITIES), draw.of(Lexicon.JOBS), draw.of(Lexicon.FOODS));
            sentences.add(" " + person + " lives in " + facts.get(0) + ".");
            sentences.add(" " + person + " works as a " + facts.get(1) + ".");
            sentences.add(" " + person + " likes to eat " + facts.get(2) + ".");
            answer = person.equals(who) ? facts.get(which) : answer;
        }
        List<String> questions = List.of(
                "Where does " + who + " live?", "What is the job of " + who + "?",
                "What does " + who + " like to eat?");
        return task(hidden(draw, room, sentences, i -> draw.sentence()), questions.get(which), List.of(answer));
    }

    // ---- parts -----------------------------------------------------------------------------------------------------

    private static Task task(List<String> text, String question, List<String> references) {
        return new Task(INTRODUCTION + String.join("", text) + "\n" + question, references);
    }

    private static String needle(String kind, String key, String value) {
        return " The secret " + kind + " of " + key + " is " + value + ".";
    }

    private static String noise(int index) {
        return Lexicon.FILLER.get(index % Lexicon.FILLER.size());
    }

    private List<String> haystack(int room, IntFunction<String> unit) {
        List<String> hay = new ArrayList<>();
        int left = room;
        for (int i = 0; left > 0; i++) {
            String next = unit.apply(i);
            left -= count(next);
            hay.add(next);
        }
        return hay;
    }

    /** A haystack with needles at random places; needles and hay fill the room. */
    private List<String> hidden(Draw draw, int room, List<String> needles, IntFunction<String> unit) {
        List<String> hay = haystack(room - total(needles), unit);
        for (String needle : needles) {
            hay.add(draw.below(hay.size() + 1), needle);
        }
        return hay;
    }

    /** A bag of words in random order, shortened until it fits. */
    private List<String> fitted(Draw draw, List<String> bag, int room) {
        draw.shuffle(bag);
        List<String> rest = bag;
        while (total(rest) > room) {
            rest = rest.subList(0, rest.size() * 9 / 10);
        }
        return rest;
    }

    private int total(List<String> texts) {
        return texts.stream().collect(Collectors.summingInt(this::count));
    }

    private int count(String text) {
        if (known.size() > 200_000) {
            known.clear();
        }
        return known.computeIfAbsent(text, counter::count);
    }
}
