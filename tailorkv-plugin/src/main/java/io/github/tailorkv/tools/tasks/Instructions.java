package io.github.tailorkv.tools.tasks;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.function.ToIntFunction;

/**
 * Tasks for instruct models that know nothing of them: each says before the text what to look out for, and behind it what
 * to answer and in which form.
 */
final class Instructions {
    /** What the instruction, the question and the answer take on top of what every task leaves free. */
    private static final int OVERHEAD = 90;

    private static final int COMMON = 5;

    private final Draw draw;
    private final ToIntFunction<String> count;

    Instructions(Draw draw, ToIntFunction<String> count) {
        this.draw = draw;
        this.count = count;
    }

    /** @param depth of the pass key in the text, 0 to 1; negative for any */
    Task passKey(int room, double depth) {
        String key = draw.variableValue();
        String note = " The pass key is " + key + ". Keep it in mind: " + key + " is the pass key.";
        List<String> text = new ArrayList<>();
        int left = room - OVERHEAD - count.applyAsInt(note);
        for (int i = 0; left > 0; i++) {
            text.add(" " + Lexicon.FILLER.get(i % Lexicon.FILLER.size()));
            left -= count.applyAsInt(text.getLast());
        }
        int place = depth < 0 ? draw.below(text.size() + 1) : (int) Math.round(depth * text.size());
        text.add(place, note);
        return task(
                "The text below says many unimportant things, and somewhere in it there is a pass key. Find the pass key "
                        + "and keep it in mind.",
                text, "What is the pass key? Answer with the number only.", List.of(key), List.of());
    }

    /** @param asked how many of six lockers are asked for */
    Task lockers(int room, int asked) {
        List<String> people = draw.distinct(6, draw::person);
        List<String> numbers = draw.distinct(people.size(), draw::number);
        List<String> notes = new ArrayList<>();
        for (int i = 0; i < people.size(); i++) {
            notes.add(" The locker of " + people.get(i) + " opens with the number " + numbers.get(i) + ".");
        }
        draw.shuffle(notes);
        List<String> text = hidden(room, notes);
        String question = asked == 1
                ? "Which number opens the locker of " + people.getFirst() + "? Answer with the number only."
                : "Which numbers open the lockers of " + String.join(", ", people.subList(0, asked - 1)) + " and "
                        + people.get(asked - 1) + "? Answer with the " + asked
                        + " numbers in this order, separated by commas.";
        return task(
                "Read the text below. In between, it tells which numbers open the lockers of some people. You will be "
                        + "asked about them afterwards.",
                text, question, numbers.subList(0, asked), numbers.subList(asked, numbers.size()));
    }

    Task variables(int room) {
        int links = 3 + draw.below(2);
        List<String> names = draw.distinct(2 * links, draw::variable);
        List<String> values = draw.distinct(2, draw::variableValue);
        List<String> notes = new ArrayList<>();
        for (int link = 0; link < links; link++) {
            for (int chain = 0; chain < 2; chain++) {
                int i = chain * links + link;
                notes.add(
                        link == 0
                                ? " Set " + names.get(i) + " to " + values.get(chain) + "."
                                : " Set " + names.get(i) + " to the value of " + names.get(i - 1) + ".");
            }
        }
        List<String> text = hidden(room, notes);
        int asked = draw.below(2);
        return task(
                "Read the text below. Some of its sentences give a value to a variable, directly or by naming another "
                        + "variable whose value it takes over. Keep track of the values.",
                text,
                "Which variables have the value " + values.get(asked) + " in the end? There are " + links
                        + " of them. Answer with their names only, separated by commas.",
                names.subList(asked * links, (asked + 1) * links),
                names.subList((1 - asked) * links, (2 - asked) * links));
    }

    Task commonWords(int room) {
        List<String> words = new ArrayList<>(Lexicon.NOUNS);
        words.addAll(Lexicon.ADJECTIVES);
        draw.shuffle(words);
        int left = room - OVERHEAD;
        int items = left / Math.max(1, count.applyAsInt(" " + words.getFirst() + ",") + 1);
        int others = Math.clamp(items / 6, COMMON, words.size() - COMMON);
        int rare = Math.max(1, items * 3 / 5 / others);
        int often = Math.max(3 * rare, (items - rare * others) / COMMON);
        List<String> common = List.copyOf(words.subList(0, COMMON));
        List<String> bag = new ArrayList<>();
        common.forEach(word -> bag.addAll(Collections.nCopies(often, word)));
        words.subList(COMMON, COMMON + others).forEach(word -> bag.addAll(Collections.nCopies(rare, word)));
        draw.shuffle(bag);
        List<String> text = new ArrayList<>();
        for (String word : bag) {
            String item = " " + word + ",";
            left -= count.applyAsInt(item);
            if (left < 0) {
                break;
            }
            text.add(item);
        }
        return task(
                "Below is a long list of words. Most occur a few times, some of them much more often. Count how often "
                        + "they occur.",
                text,
                "Which " + COMMON + " words occur most often in the list? Answer with these " + COMMON
                        + " words only, separated by commas.",
                common, words.subList(COMMON, COMMON + others));
    }

    /** Prose with notes at random places, in the order in which they are given. */
    private List<String> hidden(int room, List<String> notes) {
        int left = room - OVERHEAD - notes.stream().mapToInt(count).sum();
        List<String> text = new ArrayList<>();
        while (left > 0) {
            text.add(draw.sentence());
            left -= count.applyAsInt(text.getLast());
        }
        int[] places = new int[notes.size()];
        Arrays.setAll(places, i -> draw.below(text.size() + 1));
        Arrays.sort(places);
        for (int i = 0; i < places.length; i++) {
            text.add(places[i] + i, notes.get(i));
        }
        return text;
    }

    private static Task task(String instruction, List<String> text, String question, List<String> references,
            List<String> others) {
        return new Task(
                instruction + "\n\n" + String.join("", text).strip() + "\n\n" + question, references, others, true);
    }
}
