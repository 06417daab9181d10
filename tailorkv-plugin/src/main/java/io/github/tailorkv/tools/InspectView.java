package io.github.tailorkv.tools;

import io.github.tailorkv.json.JsonObject;
import io.github.tailorkv.live.LayerReading;
import io.github.tailorkv.live.SessionReading;
import io.github.tailorkv.tools.ModelSnapshot.LayerMeans;
import io.github.tailorkv.tools.ModelSnapshot.Means;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** What {@code inspect} shows of the models of a JVM: text, or a line of JSON. */
final class InspectView {
    private final long pid;
    private final Map<String, ModelSnapshot> before = new HashMap<>();
    private final Map<String, Means> latest = new HashMap<>();

    InspectView(long pid) {
        this.pid = pid;
    }

    /**
     * Takes note of a reading. Measured are the steps since the reading before; if there were none, what was shown before
     * stays, and at first everything since the model was loaded.
     */
    void update(List<ModelSnapshot> models) {
        for (ModelSnapshot model : models) {
            ModelSnapshot earlier = before.put(model.name(), model);
            if (earlier == null || model.sampledSteps() < earlier.sampledSteps()) {
                latest.put(model.name(), model.means());
            } else if (model.sampledSteps() > earlier.sampledSteps()) {
                latest.put(model.name(), model.since(earlier));
            }
        }
        before.keySet().retainAll(models.stream().map(ModelSnapshot::name).toList());
        latest.keySet().retainAll(before.keySet());
    }

    private Means measured(ModelSnapshot model) {
        return latest.getOrDefault(model.name(), model.means());
    }

    // ---- text ------------------------------------------------------------------------------------------------------

    String text(List<ModelSnapshot> models) {
        StringWriter text = new StringWriter();
        PrintWriter out = new PrintWriter(text);
        if (models.isEmpty()) {
            out.println("process " + pid + ": no model at the moment");
        }
        String separator = "";
        for (ModelSnapshot model : models) {
            out.print(separator);
            print(model, out);
            separator = "\n";
        }
        return text.toString();
    }

    private void print(ModelSnapshot model, PrintWriter out) {
        Means means = measured(model);
        out.println("process " + pid + ", model " + model.name() + ": " + model.architecture() + ", provider "
                + model.provider() + ", backend " + model.backend() + ", policy " + model.policy());
        out.println(sessions(model));
        out.println(sampling(model, means));
        out.println();
        TextTable table = new TextTable(
                "layer", "P", "tokens", "resident", "offloaded", "read/step", "append us", "score us", "gather us",
                "attend us", "recall");
        for (LayerReading layer : model.layers()) {
            LayerMeans mean = means.layers().get(layer.layer());
            table.row(
                    String.format(Locale.ROOT, "%3d %s", layer.layer(),
                            layer.kind().contains(",") ? "mixed" : layer.kind()),
                    number("%.2f", layer.densePreference()),
                    String.format(Locale.ROOT, "%,d", layer.tokens()),
                    bytes(layer.residentBytes()),
                    bytes(layer.offloadedBytes()),
                    mean.bytesRead() == 0 ? "-" : bytes(Math.round(mean.bytesRead())),
                    micros(mean.appendMicros()),
                    micros(mean.scoreMicros()),
                    micros(mean.gatherMicros()),
                    micros(mean.attendMicros()),
                    number("%.3f", mean.recall()));
        }
        List<LayerMeans> all = means.layers();
        double read = all.stream().mapToDouble(LayerMeans::bytesRead).sum();
        table.row(
                "all",
                "",
                String.format(Locale.ROOT, "%,d", model.tokens()),
                bytes(model.residentBytes()),
                bytes(model.offloadedBytes()),
                read == 0 ? "-" : bytes(Math.round(read)),
                micros(all.stream().mapToDouble(LayerMeans::appendMicros).sum()),
                micros(all.stream().mapToDouble(LayerMeans::scoreMicros).sum()),
                micros(all.stream().mapToDouble(LayerMeans::gatherMicros).sum()),
                micros(all.stream().mapToDouble(LayerMeans::attendMicros).sum()),
                number("%.3f", all.stream().mapToDouble(LayerMeans::recall).filter(Double::isFinite).average()
                        .orElse(Double.NaN)));
        table.print(out);
    }

    private static String sessions(ModelSnapshot model) {
        long busy = model.sessions().stream().filter(SessionReading::busy).count();
        long bytes = model.residentBytes() + model.offloadedBytes();
        long stock = model.tokens() * model.stockBytesPerToken();
        return String.format(
                Locale.ROOT,
                "%d session%s, %d in a turn; %,d tokens in %s%s",
                model.sessions().size(),
                model.sessions().size() == 1 ? "" : "s",
                busy,
                model.tokens(),
                bytes(bytes),
                stock == 0 ? "" : String.format(Locale.ROOT, ", %.2f of Jlama's own cache", (double) bytes / stock));
    }

    private static String sampling(ModelSnapshot model, Means means) {
        String rate = switch (model.sampleEvery()) {
            case 0 -> "no step is measured";
            case 1 -> "every step is measured";
            default -> "one step in " + model.sampleEvery() + " is measured";
        };
        if (means.steps() == 0) {
            return rate + ", none yet";
        }
        double attention = means.layers().stream().mapToDouble(LayerMeans::micros).sum() / 1000;
        return String.format(
                Locale.ROOT,
                "%s, here %d: %.2f ms a step%s",
                rate,
                means.steps(),
                means.stepMillis(),
                attention == 0
                        ? ""
                        : String.format(
                                Locale.ROOT, ", %.2f ms of it (%.0f %%) in cache and attention", attention,
                                100 * attention / means.stepMillis()));
    }

    private static String number(String format, double value) {
        return EvaluationTable.format(format, value);
    }

    private static String micros(double micros) {
        return micros == 0 ? "-" : String.format(Locale.ROOT, micros < 100 ? "%.1f" : "%,.0f", micros);
    }

    static String bytes(long bytes) {
        double value = bytes;
        int unit = 0;
        while (value >= 1000 && unit < 4) {
            value /= 1024;
            unit++;
        }
        return unit == 0
                ? bytes + " B"
                : String.format(Locale.ROOT, value < 9.995 ? "%.2f" : value < 99.95 ? "%.1f" : "%.0f", value) + " "
                        + "KMGT".charAt(unit - 1) + "iB";
    }

    // ---- JSON ------------------------------------------------------------------------------------------------------

    JsonObject json(List<ModelSnapshot> models, String time) {
        return new JsonObject()
                .put("time", time)
                .put("pid", pid)
                .put("models", models.stream().map(this::json).toList());
    }

    private JsonObject json(ModelSnapshot model) {
        Means means = measured(model);
        return new JsonObject()
                .put("name", model.name())
                .put("architecture", model.architecture())
                .put("provider", model.provider())
                .put("backend", model.backend())
                .put("policy", model.policy())
                .put("contextLength", model.contextLength())
                .put("stockBytesPerToken", model.stockBytesPerToken())
                .put("sampleEvery", model.sampleEvery())
                .put("sampledSteps", means.steps())
                .put("stepMillis", means.steps() == 0 ? Double.NaN : means.stepMillis())
                .put("sessions", model.sessions().stream().map(InspectView::json).toList())
                .put("layers", model.layers().stream()
                        .map(layer -> json(layer, means.steps(), means.layers().get(layer.layer())))
                        .toList());
    }

    private static JsonObject json(SessionReading session) {
        return new JsonObject()
                .put("session", session.session())
                .put("busy", session.busy())
                .put("tokens", session.tokens())
                .put("residentBytes", session.residentBytes())
                .put("offloadedBytes", session.offloadedBytes());
    }

    private static JsonObject json(LayerReading layer, long steps, LayerMeans means) {
        JsonObject json = new JsonObject()
                .put("layer", layer.layer())
                .put("kind", layer.kind())
                .put("densePreference", layer.densePreference())
                .put("tokens", layer.tokens())
                .put("residentBytes", layer.residentBytes())
                .put("offloadedBytes", layer.offloadedBytes());
        return steps == 0
                ? json
                : json.put("sampled", new JsonObject()
                        .put("steps", steps)
                        .put("appendMicros", means.appendMicros())
                        .put("scoreMicros", means.scoreMicros())
                        .put("gatherMicros", means.gatherMicros())
                        .put("attendMicros", means.attendMicros())
                        .put("bytesRead", means.bytesRead())
                        .put("recall", means.recall())
                        .put("recallSteps", layer.recallSteps()));
    }
}
