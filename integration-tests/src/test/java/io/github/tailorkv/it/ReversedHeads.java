package io.github.tailorkv.it;

import com.github.tjake.jlama.model.DistributedContext;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.safetensors.TensorInfo;
import com.github.tjake.jlama.safetensors.WeightLoader;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.FloatBufferTensor;
import io.github.tailorkv.models.ModelSpec;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** The weights of a model whose heads stand in reverse order: it computes the same. */
@SuppressWarnings("rawtypes")
final class ReversedHeads implements WeightLoader {
    private final WeightLoader weights;
    private final ModelSpec spec;

    ReversedHeads(WeightLoader weights, ModelSpec spec) {
        this.weights = weights;
        this.spec = spec;
    }

    @Override
    public AbstractTensor load(
            String name, @Nullable DistributedContext context, boolean sparseRows, boolean sparseColumns) {
        AbstractTensor tensor = weights.load(name, context, sparseRows, sparseColumns);
        if (name.contains("o_proj")) {
            return reversed(tensor, false);
        }
        boolean input = name.contains("q_proj") || name.contains("k_proj") || name.contains("v_proj");
        return input ? reversed(tensor, true) : tensor;
    }

    private AbstractTensor reversed(AbstractTensor tensor, boolean rows) {
        int height = tensor.shape().first();
        int width = tensor.shape().last();
        FloatBufferTensor copy = new FloatBufferTensor(height, width);
        for (int row = 0; row < height; row++) {
            for (int column = 0; column < width; column++) {
                float value = tensor.get(row, column);
                copy.set(value, rows ? place(row, height) : row, rows ? column : place(column, width));
            }
        }
        return copy;
    }

    private int place(int index, int length) {
        int head = index / spec.headSize();
        return (length / spec.headSize() - 1 - head) * spec.headSize() + index % spec.headSize();
    }

    @Override
    public Map<String, String> metadata() {
        return weights.metadata();
    }

    @Override
    public Map<String, TensorInfo> tensorInfoMap() {
        return weights.tensorInfoMap();
    }

    @Override
    public DType getModelDType() {
        return weights.getModelDType();
    }

    @Override
    public void close() {
        try {
            weights.close();
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }
}
