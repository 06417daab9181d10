package io.github.tailorkv.json;

import java.util.List;

/** Writes on one line, or indented: there, an array is on one line unless it holds objects. */
final class JsonWriter {
    private final StringBuilder out = new StringBuilder();
    private final boolean pretty;

    private JsonWriter(boolean pretty) {
        this.pretty = pretty;
    }

    static String line(Object value) {
        JsonWriter writer = new JsonWriter(false);
        writer.value(value, 0);
        return writer.out.toString();
    }

    static String pretty(Object value) {
        JsonWriter writer = new JsonWriter(true);
        writer.value(value, 0);
        return writer.out.append('\n').toString();
    }

    private void value(Object value, int indent) {
        switch (value) {
            case JsonObject object -> object(object, indent);
            case List<?> list -> array(list, indent);
            case String text -> text(text);
            case Double number -> number(number);
            default -> out.append(value);
        }
    }

    private void number(double value) {
        if (value == Math.rint(value) && Math.abs(value) < 1e15) {
            out.append((long) value);
        } else {
            out.append(value);
        }
    }

    private void object(JsonObject object, int indent) {
        out.append('{');
        boolean first = true;
        for (var entry : object.values().entrySet()) {
            separate(first, pretty, indent + 1);
            text(entry.getKey());
            out.append(pretty ? ": " : ":");
            value(entry.getValue(), indent + 1);
            first = false;
        }
        end(pretty && !first, indent);
        out.append('}');
    }

    private void array(List<?> list, int indent) {
        boolean lines = pretty && list.stream().anyMatch(JsonObject.class::isInstance);
        out.append('[');
        boolean first = true;
        for (Object element : list) {
            separate(first, lines, indent + 1);
            value(element, indent + 1);
            first = false;
        }
        end(lines, indent);
        out.append(']');
    }

    private void separate(boolean first, boolean lines, int indent) {
        if (!first) {
            out.append(pretty && !lines ? ", " : ",");
        }
        end(lines, indent);
    }

    private void end(boolean lines, int indent) {
        if (lines) {
            out.append('\n').repeat("  ", indent);
        }
    }

    private void text(String text) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            switch (c) {
                case '"', '\\' -> out.append('\\').append(c);
                case '\n' -> out.append("\\n");
                case '\t' -> out.append("\\t");
                case '\r' -> out.append("\\r");
                default -> {
                    if (c < ' ' || c == '\u2028' || c == '\u2029' || Character.isSurrogate(c)) {
                        out.append("\\u%04x".formatted((int) c));
                    } else {
                        out.append(c);
                    }
                }
            }
        }
        out.append('"');
    }
}
