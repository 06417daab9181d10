package io.github.tailorkv.json;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class JsonTest {

    @Test
    void whatIsWrittenIsReadAgain() throws JsonException {
        JsonObject object = new JsonObject()
                .put("text", "a \"quoted\" \\ line\n\ttab \u0001 \u2028 \uD83D\uDE00 <b>")
                .put("whole", 1_000_000_007)
                .put("small", -1.25e-9)
                .put("flag", true)
                .put("numbers", List.of(1, 2.5, Double.NaN))
                .put("empty", List.of())
                .put("inner", new JsonObject().put("list", List.of(new JsonObject(), new JsonObject().put("a", "b"))));
        for (String text : List.of(object.toString(), object.toPrettyString())) {
            JsonObject read = JsonObject.parse(text);
            assertEquals(object, read);
            assertEquals(1_000_000_007, read.whole("whole"));
            assertEquals(List.of(1.0, 2.5, Double.NaN), read.numbers("numbers"));
        }
        assertFalse(object.toString().contains("\n"));
        assertTrue(object.toPrettyString().endsWith("}\n"));
    }

    @Test
    void numbersThatAreNotFiniteAreNull() throws JsonException {
        JsonObject object = new JsonObject().put("p", Double.NaN);
        assertEquals("{\"p\":null}", object.toString());
        assertTrue(Double.isNaN(JsonObject.parse(object.toString()).numberOrNaN("p")));
    }

    @Test
    void escapesAreUnderstood() throws JsonException {
        assertEquals("\u00e9/\b\f\n\r\t\"\\",
                JsonObject.parse("{\"a\":\"\\u00E9\\/\\b\\f\\n\\r\\t\\\"\\\\\"}").text("a"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "[]", "{}}", "{\"a\":01}", "{\"a\":1.}", "{\"a\":+1}", "{\"a\":NaN}",
        "{\"a\":1e999}",
        "{\"a\":1,}", "{a:1}", "{'a':1}", "{\"a\":1,\"a\":2}", "{\"a\":\"\t\"}", "{\"a\":\"\\x\"}", "{\"a\":\"\\u12\"}",
        "{\"a\":tru}", "{\"a\" 1}", "{\"a\":\"b}", "{\"a\":[1 2]}", "{\"a\":\u00a01}"})
    void whatIsNotJsonIsRefused(String text) {
        assertThrows(JsonException.class, () -> JsonObject.parse(text));
    }

    @Test
    void nestingIsBounded() {
        String deep = "{\"a\":" + "[".repeat(100_000);
        assertThrows(JsonException.class, () -> JsonObject.parse(deep));
    }

    @Test
    void complaintsNameTheLineAndTheMember() throws JsonException {
        JsonException wrong = assertThrows(JsonException.class, () -> JsonObject.parse("{\"a\": 1,\n\"b\" 2}"));
        assertEquals("line 2: ':' expected, '2' found", wrong.getMessage());
        JsonObject object = JsonObject.parse("{\"a\":1.5,\"b\":[{}]}");
        assertEquals("\"c\" is missing", message(() -> object.text("c")));
        assertEquals("\"a\" is not a text", message(() -> object.text("a")));
        assertEquals("\"a\" is not a whole number", message(() -> object.whole("a")));
        assertEquals("an element of \"b\" is not a text", message(() -> object.texts("b")));
    }

    private static String message(org.junit.jupiter.api.function.Executable read) {
        return String.valueOf(assertThrows(JsonException.class, read).getMessage());
    }
}
