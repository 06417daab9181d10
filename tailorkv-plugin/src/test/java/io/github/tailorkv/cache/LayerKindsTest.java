package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Profile;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.config.SettingsException;
import io.github.tailorkv.json.JsonException;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.ModelShape;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Profiles: which kinds they give, and which of them are refused. */
class LayerKindsTest {
    private static final String CONFIG = "{\"model_type\":\"llama\",\"hidden_size\":128,\"vocab_size\":4096}";

    @TempDir
    private Path folder = Path.of("");

    @Test
    void aProfileDecidesUnderBothPolicies() throws IOException {
        profile(2, 4, "").write(folder.resolve("tailorkv.json"));
        for (String policy : List.of("profile", "auto")) {
            LayerKinds kinds = LayerKinds.of(shape(2), settings(policy));
            assertEquals(Map.of(0, LayerKind.QUANTIZED, 1, LayerKind.RETRIEVAL), kinds.kinds());
            assertEquals("profile 0:quantize,1:retrieve", kinds.origin());
        }
    }

    @Test
    void anotherFileCanBeNamed() throws IOException {
        Path file = folder.resolve("other.json");
        profile(2, 4, "").write(file);
        assertEquals(2, LayerKinds.of(shape(2), settings("auto", "tailorkv.profile", file.toString())).kinds().size());
        assertTrue(LayerKinds.of(shape(2), settings("auto")).kinds().isEmpty());
    }

    @Test
    void itSurvivesWritingAndReading() throws IOException, JsonException {
        Path file = folder.resolve("tailorkv.json");
        profile(3, 4, "abc").write(file);
        assertEquals(profile(3, 4, "abc"), Profile.read(file));
    }

    @Test
    void withoutAProfileEachPromptDecides() {
        LayerKinds kinds = LayerKinds.of(shape(2), settings("auto"));
        assertTrue(kinds.kinds().isEmpty());
        assertEquals("auto", kinds.origin());
        String message = refusal(2, "profile");
        assertTrue(message.contains("there is no profile") && message.contains("java -jar tailorkv.jar profile"),
                message);
    }

    @Test
    void aProfileOfAnotherModelIsRefused() throws IOException {
        profile(3, 4, "").write(folder.resolve("tailorkv.json"));
        assertTrue(refusal(2, "profile").contains("its layers is 3, the model's 2"), refusal(2, "profile"));
        profile(2, 8, "").write(folder.resolve("tailorkv.json"));
        assertTrue(refusal(2, "profile").contains("its heads is 8, the model's 4"), refusal(2, "profile"));
        Files.writeString(folder.resolve("config.json"), CONFIG);
        profile(2, 4, "0123456789abcdef").write(folder.resolve("tailorkv.json"));
        assertTrue(refusal(2, "profile").contains("fingerprint"), refusal(2, "profile"));
        assertTrue(LayerKinds.of(shape(2), settings("auto")).kinds().isEmpty());
    }

    @Test
    void theFingerprintIgnoresHowTheConfigurationIsWritten() throws IOException {
        Files.writeString(folder.resolve("config.json"), CONFIG);
        Optional<String> fingerprint = Profile.fingerprint(folder);
        assertTrue(fingerprint.isPresent());
        Files.writeString(folder.resolve("config.json"),
                "{\n \"vocab_size\": 4096.0, \"model_type\": \"LLAMA\", \"torch_dtype\": \"q4\", \"hidden_size\": 128}");
        assertEquals(fingerprint, Profile.fingerprint(folder));
        Files.writeString(folder.resolve("config.json"), CONFIG.replace("4096", "4097"));
        assertTrue(Profile.fingerprint(folder).isPresent() && !fingerprint.equals(Profile.fingerprint(folder)));
    }

    @Test
    void aDamagedProfileIsRefused() throws IOException {
        profile(2, 4, "").write(folder.resolve("tailorkv.json"));
        String good = Files.readString(folder.resolve("tailorkv.json"));
        for (String bad : List.of(
                "", "{}", good.substring(0, good.length() / 2), good.replace("\"version\": 1", "\"version\": 2"),
                good.replace("retrieval", "magic"), good.replace("tailorkv-profile", "other"),
                good.replace("\"mean\": 0.5", "\"mean\": 7"), good.replace("\"layer\": 1", "\"layer\": 5"))) {
            assertTrue(!bad.equals(good));
            Files.writeString(folder.resolve("tailorkv.json"), bad);
            String message = refusal(2, "profile");
            assertTrue(message.contains("damaged or none"), message);
            assertTrue(!message.contains("\n"), message);
            assertTrue(LayerKinds.of(shape(2), settings("auto")).kinds().isEmpty());
        }
        Files.write(folder.resolve("tailorkv.json"), new byte[] {(byte) 0xFF, (byte) 0xFE, 0});
        assertTrue(refusal(2, "profile").contains("damaged or none"));
    }

    private String refusal(int layers, String policy) {
        return String.valueOf(
                assertThrows(SettingsException.class, () -> LayerKinds.of(shape(layers), settings(policy)))
                        .getMessage());
    }

    private ModelShape shape(int layers) {
        return new ModelShape(
                "LLAMA", layers, new AttentionShape(4, 2, 32, 1, 0), 4096, false, 1, Optional.of(folder));
    }

    private static Profile profile(int layers, int heads, String fingerprint) {
        return new Profile(
                new Profile.Model("LLAMA", "a model", layers, heads, 2, 32, fingerprint), 0.2,
                java.util.stream.IntStream.range(0, layers)
                        .mapToObj(
                                layer -> layer == 0
                                        ? new Profile.Layer(0.5, 0.25, 0.75, LayerKind.QUANTIZED)
                                        : new Profile.Layer(0.1, 0, 0.125, LayerKind.RETRIEVAL))
                        .toList(),
                List.of(new Profile.Text("essay", 4096, List.of(0.5, 0.125))), "2026-01-01");
    }

    private static Settings settings(String policy, String... more) {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.policy", policy);
        for (int i = 0; i < more.length; i += 2) {
            properties.setProperty(more[i], more[i + 1]);
        }
        return Settings.from(properties);
    }
}
