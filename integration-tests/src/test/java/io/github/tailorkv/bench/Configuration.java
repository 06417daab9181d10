package io.github.tailorkv.bench;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * One contender: stock Jlama, or the plugin under some system properties.
 *
 * @param name as it appears in the results
 * @param stock whether the plugin stays out
 * @param properties of the plugin; empty for stock
 */
record Configuration(String name, boolean stock, Map<String, String> properties) {
    static final String STOCK = "stock";
    private static final List<String> PRESETS = List.of("balanced", "compact", "paper", "exact");
    private static final String PREFIX = "tailorkv.";

    /** A comma before a property; a policy's own commas stand before a number. */
    private static final Pattern ASSIGNMENTS = Pattern.compile(",(?=[a-z.]+=)");

    /**
     * Reads {@code stock}, the name of a preset, or {@code name:property=value,property=value}, where properties go
     * without their {@code tailorkv.}.
     *
     * @throws IllegalArgumentException if it is none of these
     */
    static Configuration parse(String text) {
        int colon = text.indexOf(':');
        String name = colon < 0 ? text : text.substring(0, colon);
        if (colon < 0 && name.equals(STOCK)) {
            return new Configuration(name, true, Map.of());
        }
        if (colon < 0 && PRESETS.contains(name)) {
            return new Configuration(name, false, Map.of(PREFIX + "preset", name));
        }
        if (colon <= 0 || name.equals(STOCK)) {
            throw new IllegalArgumentException(
                    "'" + text + "' is neither stock nor one of " + PRESETS + " nor name:property=value,...");
        }
        Map<String, String> properties = new LinkedHashMap<>();
        for (String assignment : ASSIGNMENTS.splitAsStream(text.substring(colon + 1)).toList()) {
            int equals = assignment.indexOf('=');
            if (equals <= 0) {
                throw new IllegalArgumentException("'" + assignment + "' in '" + text + "' is not property=value");
            }
            properties.put(PREFIX + assignment.substring(0, equals), assignment.substring(equals + 1));
        }
        return new Configuration(name, false, properties);
    }
}
