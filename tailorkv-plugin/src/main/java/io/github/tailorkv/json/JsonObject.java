package io.github.tailorkv.json;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * A JSON object. Values are {@link String}, {@link Double}, {@link Boolean}, {@link JsonObject}, {@link List} of these, and
 * {@link #NULL}. The {@code put} methods build one, the others read one and complain of what does not fit by name.
 */
public final class JsonObject {

    /** The value {@code null}. */
    public static final Object NULL = new Object() {
        @Override
        public String toString() {
            return "null";
        }
    };

    private final Map<String, Object> values = new LinkedHashMap<>();

    /** Reads a text that is one JSON object. */
    public static JsonObject parse(String text) throws JsonException {
        if (new JsonReader(text).read() instanceof JsonObject object) {
            return object;
        }
        throw new JsonException("it is not a JSON object");
    }

    // ---- building --------------------------------------------------------------------------------------------------

    /** Sets a text. */
    public JsonObject put(String name, String value) {
        return set(name, value);
    }

    /** Sets a number; one that is not finite becomes null. */
    public JsonObject put(String name, double value) {
        return set(name, Double.isFinite(value) ? value : NULL);
    }

    /** Sets a whole number, which is exact up to 2<sup>53</sup>. */
    public JsonObject put(String name, long value) {
        return put(name, (double) value);
    }

    /** Sets a truth value. */
    public JsonObject put(String name, boolean value) {
        return set(name, value);
    }

    /** Sets an object. */
    public JsonObject put(String name, JsonObject value) {
        return set(name, value);
    }

    /** Sets an array of objects, texts or numbers. */
    public JsonObject put(String name, Collection<?> values) {
        List<Object> all = new ArrayList<>();
        for (Object value : values) {
            if (value instanceof Number number) {
                all.add(Double.isFinite(number.doubleValue()) ? number.doubleValue() : NULL);
            } else {
                all.add(value);
            }
        }
        return set(name, all);
    }

    JsonObject set(String name, Object value) {
        values.put(name, value);
        return this;
    }

    // ---- reading ---------------------------------------------------------------------------------------------------

    /** The names, in order. */
    public Set<String> names() {
        return values.keySet();
    }

    /** Whether the name is there and its value is not null. */
    public boolean has(String name) {
        Object value = values.get(name);
        return value != null && value != NULL;
    }

    Map<String, Object> values() {
        return values;
    }

    /** The text of that name. */
    public String text(String name) throws JsonException {
        return expect(name, String.class, "a text");
    }

    /** The number of that name. */
    public double number(String name) throws JsonException {
        return expect(name, Double.class, "a number");
    }

    /** The number of that name, NaN where it is null or missing. */
    public double numberOrNaN(String name) throws JsonException {
        return has(name) ? number(name) : Double.NaN;
    }

    /** The whole number of that name, not negative. */
    public int whole(String name) throws JsonException {
        double value = number(name);
        if (value < 0 || value > Integer.MAX_VALUE || value != Math.rint(value)) {
            throw new JsonException("\"" + name + "\" is not a whole number");
        }
        return (int) value;
    }

    /** The text of that name, if there is one. */
    public Optional<String> optionalText(String name) throws JsonException {
        return has(name) ? Optional.of(text(name)) : Optional.empty();
    }

    /** The object of that name. */
    public JsonObject object(String name) throws JsonException {
        return expect(name, JsonObject.class, "an object");
    }

    /** The objects of the array of that name. */
    public List<JsonObject> objects(String name) throws JsonException {
        return elements(name, JsonObject.class, "an object");
    }

    /** The texts of the array of that name. */
    public List<String> texts(String name) throws JsonException {
        return elements(name, String.class, "a text");
    }

    /** The numbers of the array of that name, NaN for null. */
    public List<Double> numbers(String name) throws JsonException {
        List<Double> all = new ArrayList<>();
        for (Object element : expect(name, List.class, "an array")) {
            if (element != NULL && !(element instanceof Double)) {
                throw new JsonException("an element of \"" + name + "\" is not a number");
            }
            all.add(element instanceof Double number ? number : Double.NaN);
        }
        return all;
    }

    private <T> List<T> elements(String name, Class<T> type, String what) throws JsonException {
        List<T> all = new ArrayList<>();
        for (Object element : expect(name, List.class, "an array")) {
            if (!type.isInstance(element)) {
                throw new JsonException("an element of \"" + name + "\" is not " + what);
            }
            all.add(type.cast(element));
        }
        return all;
    }

    private <T> T expect(String name, Class<T> type, String what) throws JsonException {
        @Nullable
        Object value = values.get(name);
        if (value == null) {
            throw new JsonException("\"" + name + "\" is missing");
        }
        if (!type.isInstance(value)) {
            throw new JsonException("\"" + name + "\" is not " + what);
        }
        return type.cast(value);
    }

    /** One line. */
    @Override
    public String toString() {
        return JsonWriter.line(this);
    }

    /** Indented, with a line break at the end: for files that people read. */
    public String toPrettyString() {
        return JsonWriter.pretty(this);
    }

    @Override
    public boolean equals(@Nullable Object other) {
        return other instanceof JsonObject object && values.equals(object.values);
    }

    @Override
    public int hashCode() {
        return values.hashCode();
    }
}
