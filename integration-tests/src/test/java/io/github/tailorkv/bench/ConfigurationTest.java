package io.github.tailorkv.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ConfigurationTest {

    @Test
    void stockHasNoProperties() {
        assertTrue(Configuration.parse("stock").stock());
        assertEquals(Map.of(), Configuration.parse("stock").properties());
    }

    @Test
    void presetIsAPresetOfThePlugin() {
        assertEquals(Map.of("tailorkv.preset", "compact"), Configuration.parse("compact").properties());
    }

    @Test
    void propertiesMayHoldCommasAndColons() {
        Configuration mixed = Configuration
                .parse("mixed:policy=0-1:quantize,2-31:retrieve,budget=256,offload.dir=/tmp");
        assertEquals("mixed", mixed.name());
        assertEquals(
                Map.of(
                        "tailorkv.policy",
                        "0-1:quantize,2-31:retrieve",
                        "tailorkv.budget",
                        "256",
                        "tailorkv.offload.dir",
                        "/tmp"),
                mixed.properties());
    }

    @ParameterizedTest
    @ValueSource(strings = {"stcok", "", ":bits=4", "stock:bits=4", "x:", "x:bits", "x:=4"})
    void nonsenseIsRefused(String text) {
        assertThrows(IllegalArgumentException.class, () -> Configuration.parse(text));
    }
}
