package io.github.tailorkv.json;

import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A recursive-descent parser. Names that come twice are an error, and so is nesting that could overflow the stack. */
final class JsonReader {
    private static final int MAX_DEPTH = 100;
    private static final Pattern NUMBER = Pattern.compile("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?");

    private final String text;
    private int at;
    private int depth;

    JsonReader(String text) {
        this.text = text;
    }

    Object read() throws JsonException {
        Object value = value();
        skipSpace();
        if (at < text.length()) {
            throw wrong("the end of the text");
        }
        return value;
    }

    private Object value() throws JsonException {
        skipSpace();
        if (at == text.length()) {
            throw wrong("a value");
        }
        return switch (text.charAt(at)) {
            case '{' -> object();
            case '[' -> array();
            case '"' -> string();
            case 't' -> word("true", true);
            case 'f' -> word("false", false);
            case 'n' -> word("null", JsonObject.NULL);
            default -> number();
        };
    }

    private JsonObject object() throws JsonException {
        enter();
        JsonObject object = new JsonObject();
        skipSpace();
        if (!skip('}')) {
            do {
                skipSpace();
                String name = string();
                skipSpace();
                expect(':');
                Object value = value();
                if (object.names().contains(name)) {
                    throw new JsonException("\"" + name + "\" is there twice");
                }
                object.set(name, value);
                skipSpace();
            } while (skip(','));
            expect('}');
        }
        depth--;
        return object;
    }

    private List<Object> array() throws JsonException {
        enter();
        List<Object> elements = new ArrayList<>();
        skipSpace();
        if (!skip(']')) {
            do {
                elements.add(value());
                skipSpace();
            } while (skip(','));
            expect(']');
        }
        depth--;
        return elements;
    }

    private void enter() throws JsonException {
        at++;
        if (++depth > MAX_DEPTH) {
            throw new JsonException("it is nested more than " + MAX_DEPTH + " deep");
        }
    }

    private String string() throws JsonException {
        expect('"');
        StringBuilder value = new StringBuilder();
        while (at < text.length()) {
            char c = text.charAt(at);
            if (c == '"') {
                at++;
                return value.toString();
            }
            if (c < ' ') {
                throw wrong("a character that is allowed in a text");
            }
            at++;
            value.append(c == '\\' ? escaped() : c);
        }
        throw wrong("the end of a text");
    }

    private char escaped() throws JsonException {
        char c = at < text.length() ? text.charAt(at) : 0;
        at++;
        return switch (c) {
            case '"', '\\', '/' -> c;
            case 'b' -> '\b';
            case 'f' -> '\f';
            case 'n' -> '\n';
            case 'r' -> '\r';
            case 't' -> '\t';
            case 'u' -> unicode();
            default -> {
                at--;
                throw wrong("an escape");
            }
        };
    }

    private char unicode() throws JsonException {
        int code = 0;
        for (int i = 0; i < 4; i++) {
            int digit = at < text.length() && text.charAt(at) < 128 ? Character.digit(text.charAt(at), 16) : -1;
            if (digit < 0) {
                throw wrong("four hexadecimal digits");
            }
            code = 16 * code + digit;
            at++;
        }
        return (char) code;
    }

    private Object word(String word, Object value) throws JsonException {
        if (!text.startsWith(word, at)) {
            throw wrong("a value");
        }
        at += word.length();
        return value;
    }

    private Double number() throws JsonException {
        Matcher matcher = NUMBER.matcher(text).region(at, text.length());
        if (!matcher.lookingAt()) {
            throw wrong("a value");
        }
        at = matcher.end();
        double value = Double.parseDouble(matcher.group());
        if (!Double.isFinite(value)) {
            throw new JsonException(matcher.group() + " is too large a number");
        }
        return value;
    }

    private void skipSpace() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private boolean skip(char c) {
        boolean there = at < text.length() && text.charAt(at) == c;
        if (there) {
            at++;
        }
        return there;
    }

    private void expect(char c) throws JsonException {
        if (!skip(c)) {
            throw wrong("'" + c + "'");
        }
    }

    private JsonException wrong(String expected) {
        int line = 1 + (int) text.substring(0, Math.min(at, text.length())).chars().filter(c -> c == '\n').count();
        return new JsonException("line " + line + ": " + expected + " expected, "
                + (at < text.length() ? "'" + text.charAt(at) + "' found" : "the text ends"));
    }
}
