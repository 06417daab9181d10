package io.github.tailorkv.cache;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Policy;
import io.github.tailorkv.config.Profile;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.config.SettingsException;
import io.github.tailorkv.json.JsonException;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.ModelShape;
import java.io.IOException;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;

/**
 * The kinds of layers that are decided before the first prompt: by the user's policy, or by the profile beside the model.
 *
 * @param kinds kind by layer; a layer that is missing is decided by each prompt
 * @param origin the policy as it is in force, for logs and the report
 */
record LayerKinds(Map<Integer, LayerKind> kinds, String origin) {
    private static final Logger LOG = System.getLogger("io.github.tailorkv");

    /**
     * Decides for a model.
     *
     * @throws SettingsException if a list of layers does not fit the model, or the policy is {@code profile} and there is
     *     none that fits
     */
    static LayerKinds of(ModelShape shape, Settings settings) {
        Policy policy = settings.policy();
        policy.checkLayers(shape.layers());
        return switch (policy.mode()) {
            case FIXED, LIST -> chosen(shape, policy);
            case ONLINE -> online(policy);
            case PROFILE -> profiled(shape, settings);
            case AUTO -> automatic(shape, settings);
        };
    }

    private static LayerKinds chosen(ModelShape shape, Policy policy) {
        Map<Integer, LayerKind> kinds = new HashMap<>();
        for (int layer = 0; layer < shape.layers(); layer++) {
            kinds.put(layer, policy.fixedKind(layer).orElseThrow());
        }
        return new LayerKinds(kinds, policy.toString());
    }

    private static LayerKinds online(Policy policy) {
        return new LayerKinds(Map.of(), policy.toString());
    }

    private static LayerKinds automatic(ModelShape shape, Settings settings) {
        Optional<Path> file = file(shape, settings);
        // A file that the user names must be there; one beside the model may be.
        if (file.isEmpty() || (settings.profile().isEmpty() && !Files.exists(file.get()))) {
            return online(settings.policy());
        }
        try {
            return profiled(shape, settings);
        } catch (SettingsException e) {
            LOG.log(Level.WARNING, "{0}. Each prompt decides instead, as with tailorkv.policy=online.", e.getMessage());
            return online(settings.policy());
        }
    }

    private static LayerKinds profiled(ModelShape shape, Settings settings) {
        String setting = settings.profile().map(path -> "tailorkv.profile=" + path)
                .orElse("tailorkv.policy=" + settings.policy());
        Path file = file(shape, settings).orElseThrow(
                () -> new SettingsException(setting + ": the folder of the model is not known; name the profile with "
                        + "tailorkv.profile"));
        Profile profile;
        try {
            profile = Profile.read(file);
        } catch (NoSuchFileException e) {
            throw new SettingsException(
                    setting + ": there is no profile " + file + "; make one with: java -jar tailorkv.jar profile "
                            + shape.directory().map(Path::toString).orElse("MODEL_DIR"));
        } catch (IOException e) {
            throw new SettingsException(setting + ": the profile " + file + " cannot be read: " + e);
        } catch (JsonException e) {
            throw new SettingsException(setting + ": the profile " + file + " is damaged or none: " + e.getMessage());
        }
        mismatch(profile.model(), shape).ifPresent(difference -> {
            throw new SettingsException(setting + ": the profile " + file + " is of another model: " + difference);
        });
        Map<Integer, LayerKind> kinds = new HashMap<>();
        for (int layer = 0; layer < shape.layers(); layer++) {
            kinds.put(layer, profile.layers().get(layer).kind());
        }
        return new LayerKinds(kinds, "profile " + Policy.list(kinds));
    }

    private static Optional<Path> file(ModelShape shape, Settings settings) {
        return settings.profile().or(() -> shape.directory().map(directory -> directory.resolve(Profile.FILE)));
    }

    private static Optional<String> mismatch(Profile.Model model, ModelShape shape) {
        AttentionShape attention = shape.attention();
        return differs("type", model.type(), shape.name())
                .or(() -> differs("layers", model.layers(), shape.layers()))
                .or(() -> differs("heads", model.heads(), attention.heads()))
                .or(() -> differs("KV heads", model.kvHeads(), attention.kvHeads()))
                .or(() -> differs("head size", model.headSize(), attention.headSize()))
                .or(
                        () -> shape.directory()
                                .flatMap(Profile::fingerprint)
                                .filter(fingerprint -> !model.fingerprint().isEmpty())
                                .flatMap(fingerprint -> differs("fingerprint", model.fingerprint(), fingerprint)));
    }

    private static Optional<String> differs(String what, Object inProfile, Object inModel) {
        return inProfile.equals(inModel)
                ? Optional.empty()
                : Optional.of("its " + what + " is " + inProfile + ", the model's " + inModel);
    }
}
