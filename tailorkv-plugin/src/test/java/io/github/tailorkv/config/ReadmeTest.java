package io.github.tailorkv.config;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.lang.reflect.RecordComponent;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

/** The README's tables of properties tell what {@link Settings} does. */
class ReadmeTest {
    private static final List<String> PRESETS = List.of("balanced", "compact", "paper", "exact");

    /** The cells behind the name of each property. */
    private static Map<String, List<String>> rows() throws IOException {
        Map<String, List<String>> rows = new TreeMap<>();
        Path readme = Path.of(System.getProperty("basedir", ""), "..", "README.md");
        for (String line : Files.readAllLines(readme)) {
            if (line.startsWith("| `tailorkv.")) {
                List<String> cells = Arrays.stream(line.split("\\|")).map(String::strip).toList();
                List<String> row = cells.subList(2, cells.size());
                assertEquals(null, rows.put(cells.get(1).replace("`", ""), row), "twice: " + line);
            }
        }
        return rows;
    }

    @Test
    void listsEveryPropertyWithWhatItTakes() throws IOException {
        Map<String, String> listed = new TreeMap<>();
        rows().forEach((name, row) -> listed.put(name, row.get(0)));
        assertEquals(Settings.PROPERTIES, listed);
    }

    @Test
    void namesTheDefaultsOfEachPreset() throws IOException {
        Map<String, List<String>> ofPresets = rows();
        ofPresets.values().removeIf(row -> row.size() < 2 + PRESETS.size());
        Map<String, List<String>> expected = new TreeMap<>();
        for (RecordComponent component : Settings.class.getRecordComponents()) {
            String name = property(component.getName());
            List<String> defaults = PRESETS.stream().map(preset -> value(component, Settings.preset(preset))).toList();
            if (ofPresets.containsKey(name)) {
                expected.put(name, defaults);
            } else {
                boolean same = defaults.stream().distinct().count() == 1 || name.equals("tailorkv.preset");
                assertEquals(true, same, name + " belongs into the table of presets");
            }
        }
        Map<String, List<String>> listed = new TreeMap<>();
        ofPresets.forEach((name, row) -> listed.put(name, row.subList(1, 1 + PRESETS.size())));
        assertEquals(expected, listed);
    }

    private static String property(String component) {
        return "tailorkv." + switch (component) {
            case "indexBits" -> "index";
            case "leastBudget" -> "budget.least";
            case "indexShare" -> "index.share";
            default -> component;
        };
    }

    private static String value(RecordComponent component, Settings settings) {
        try {
            Object value = component.getAccessor().invoke(settings);
            return value instanceof Enum<?> constant
                    ? constant.name().toLowerCase(Locale.ROOT).replace('_', '-')
                    : String.valueOf(value);
        } catch (ReflectiveOperationException e) {
            throw new LinkageError(component.getName(), e);
        }
    }
}
