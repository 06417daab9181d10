package io.github.tailorkv.config;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Optional;
import java.util.Properties;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class SettingsTest {

    private static Settings settings(String... pairs) {
        Properties properties = new Properties();
        for (int i = 0; i < pairs.length; i += 2) {
            properties.setProperty(pairs[i], pairs[i + 1]);
        }
        return Settings.from(properties);
    }

    private static String complaint(String... pairs) {
        String message = String.valueOf(
                assertThrows(SettingsException.class, () -> settings(pairs)).getMessage());
        assertEquals(1, message.lines().count(), message);
        return message;
    }

    @Test
    void nothingIsEnabledByDefault() {
        assertFalse(settings().enabled());
        assertEquals("balanced", settings().preset());
        assertEquals(Policy.Mode.AUTO, settings().policy().mode());
    }

    @ParameterizedTest
    @CsvSource({
        "tailorkv.enabled, yes",
        "tailorkv.bits, 3",
        "tailorkv.budget, 0",
        "tailorkv.budget, many",
        "tailorkv.budget.least, 0",
        "tailorkv.budget.least, 769",
        "tailorkv.sinks, -1",
        "tailorkv.rows, int7",
        "tailorkv.offload, tape",
        "tailorkv.backend, tpu",
        "tailorkv.threshold, 1.5",
        "tailorkv.threshold, NaN",
        "tailorkv.idle.memory, 12q",
        "tailorkv.idle.memory, ''",
        "tailorkv.preset, lossless",
        "tailorkv.policy, sometimes"
    })
    void aValueThatIsNotAllowedIsNamedWithWhatIs(String name, String value) {
        String message = complaint(name, value);
        assertTrue(message.startsWith(name + "=" + value), message);
        String allowed = Settings.PROPERTIES.get(name);
        assertTrue(allowed != null && message.contains(allowed), message);
    }

    @Test
    void anUnknownPropertyIsNamed() {
        assertTrue(complaint("tailorkv.budgte", "12").contains("tailorkv.budgte"));
        assertTrue(complaint("tailorkv.budgte", "12").contains("tailorkv.budget"));
    }

    @Test
    void propertiesOfOthersAreIgnored() {
        assertEquals(settings(), settings("jlama.max_batch_size", "64", "tailor", "x"));
    }

    @Test
    void aTailOfCodesIsTheIndexOfFourBits() {
        assertEquals(8, settings("tailorkv.index", "8").indexBits());
        assertEquals(0.25, settings("tailorkv.index.share", "0.25").indexShare());
        assertTrue(complaint("tailorkv.index.share", "0").contains("a number above 0 and up to 1"));
        assertTrue(complaint("tailorkv.index", "2", "tailorkv.tail", "true").contains("needs tailorkv.index=4"));
        assertEquals(2, settings("tailorkv.index", "2", "tailorkv.tail", "true", "tailorkv.rows", "bf16").indexBits());
    }

    @Test
    void theBudgetGrowsWithTheContextUnlessItIsSet() {
        Settings balanced = settings();
        assertEquals(384, balanced.budgetAt(0));
        assertEquals(384, balanced.budgetAt(3 * 1024));
        assertEquals(512, balanced.budgetAt(4 * 1024));
        assertEquals(768, balanced.budgetAt(1 << 20));
        assertEquals(100, settings("tailorkv.budget", "100").budgetAt(0));
        assertEquals(128, settings("tailorkv.preset", "paper").budgetAt(0));
        Settings set = settings("tailorkv.budget", "100", "tailorkv.budget.least", "10");
        assertEquals(10, set.budgetAt(64));
        assertEquals(100, set.budgetAt(1000));
    }

    @Test
    void singlePropertiesOverrideThePreset() {
        Settings paper = settings("tailorkv.preset", "paper", "tailorkv.bits", "2");
        assertEquals(2, paper.bits());
        assertEquals(8, paper.channels());
        assertEquals(Settings.Selection.AVERAGED, paper.selection());
    }

    @ParameterizedTest
    @CsvSource({"1024, 1024", "16k, 16384", "2G, 2147483648", "0, 0"})
    void memorySizesHaveUnits(String text, long bytes) {
        assertEquals(bytes, settings("tailorkv.idle.memory", text).idleBytes());
    }

    @ParameterizedTest
    @ValueSource(strings = {"auto", "online", "profile", "quantize", "retrieve", "exact", "0-1:quantize,2-31:retrieve"})
    void aPolicyIsWrittenAsItIsRead(String text) {
        assertEquals(text, settings("tailorkv.policy", text).policy().toString());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = ';',
            value = {
                "0-1:quantize,1:retrieve; layer 1 is named twice",
                "0-1; is not of the form",
                "1-0:exact; is not a layer",
                "a:exact; is not a layer",
                "0:sparse; is no kind of layer",
                "0-1:quantize,; is not of the form"
            })
    void aListThatMakesNoSenseIsRefused(String text, String why) {
        assertTrue(complaint("tailorkv.policy", text).contains(why.strip()));
    }

    @Test
    void aListMustNameEveryLayerOfTheModelAndNoOther() {
        Policy policy = settings("tailorkv.policy", "0:quantize,2-3:retrieve").policy();
        assertThrows(SettingsException.class, () -> policy.checkLayers(4));
        Policy whole = settings("tailorkv.policy", "0:quantize,1-3:retrieve").policy();
        whole.checkLayers(4);
        assertThrows(SettingsException.class, () -> whole.checkLayers(3));
        assertEquals(Optional.of(LayerKind.QUANTIZED), whole.fixedKind(0));
        assertEquals(Optional.of(LayerKind.RETRIEVAL), whole.fixedKind(3));
    }
}
