package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.BlockLayout.FLOAT;
import static io.github.tailorkv.kernels.BlockLayout.HALF;
import static io.github.tailorkv.kernels.BlockLayout.groups;
import static io.github.tailorkv.kernels.BlockLayout.keyTileBytes;
import static io.github.tailorkv.kernels.BlockLayout.lowRecordValue;
import static io.github.tailorkv.kernels.BlockLayout.packedKeyBytes;
import static io.github.tailorkv.kernels.BlockLayout.packedValueBytes;
import static io.github.tailorkv.kernels.BlockLayout.PANEL;
import static io.github.tailorkv.kernels.BlockLayout.panelBytes;
import static io.github.tailorkv.kernels.BlockLayout.recordBytes;
import static io.github.tailorkv.kernels.BlockLayout.rowBytes;
import static io.github.tailorkv.kernels.BlockLayout.valueTileBytes;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static io.github.tailorkv.kernels.NativeMemory.address;

import java.lang.foreign.MemorySegment;
import java.util.Objects;
import java.util.stream.IntStream;

import org.jspecify.annotations.Nullable;

import jdk.incubator.vector.FloatVector;

/**
 * The kernels with the Vector API. This class turns segments into checked addresses; the work is done by
 * {@link TileProduct}, {@link RowProduct}, {@link PackedProduct}, {@link IndexProduct}, {@link RecordProduct},
 * {@link OnlineSoftmax}, {@link BlockQuantizer}, {@link BlockReader}, {@link TokenRecords}, {@link ScoreSelection} and
 * {@link RowConversion}. Head sizes are multiples of 16.
 */
final class PanamaAttentionKernels implements AttentionKernels {

    private static final long TILE_ROW = BLOCK * FLOAT;
    private static final int STATE = 2 * FLOAT;
    private static final int[] ALL_CHANNELS = IntStream.range(0, 1024).toArray();

    PanamaAttentionKernels() {
        TypeProfiles.seed();
    }

    @Override
    public String name() {
        return "panama";
    }

    @Override
    public void scores(
            MemorySegment k, long kOffset, int headSize,
            MemorySegment q, long qOffset, long qStride, int rows,
            MemorySegment s, long sOffset) {
        long keys = address(k, kOffset, keyTileBytes(headSize));
        long queries = address(q, qOffset, qStride, rows, (long) headSize * FLOAT);
        long scores = address(s, sOffset, rows * TILE_ROW);
        clear(scores, rows * TILE_ROW);
        TileProduct.multiply(queries, qStride, rows, headSize, keys, TILE_ROW, BLOCK, scores, TILE_ROW);
    }

    @Override
    public void accumulate(
            MemorySegment v, long vOffset, int headSize,
            MemorySegment p, long pOffset, int rows, int tokens,
            MemorySegment acc, long accOffset) {
        long rowBytes = (long) headSize * FLOAT;
        long values = address(v, vOffset, tokens * rowBytes);
        long weights = address(p, pOffset, rows * TILE_ROW);
        long sums = address(acc, accOffset, rows * rowBytes);
        TileProduct.multiply(weights, TILE_ROW, rows, tokens, values, rowBytes, headSize, sums, rowBytes);
    }

    @Override
    public void softmaxStep(
            MemorySegment s, long sOffset, int rows, int tokens, int valid, int rowsPerToken,
            float scale, float softCap,
            MemorySegment state, long stateOffset,
            MemorySegment acc, long accOffset, int headSize) {
        long scores = address(s, sOffset, rows * TILE_ROW);
        long states = address(state, stateOffset, (long) rows * STATE);
        long sums = address(acc, accOffset, (long) rows * headSize * FLOAT);
        OnlineSoftmax.step(
                scores, rows, tokens, valid, rowsPerToken, scale, softCap, states, sums, headSize);
    }

    @Override
    public void merge(
            MemorySegment state, long stateOffset, MemorySegment acc, long accOffset,
            MemorySegment otherState, long otherStateOffset, MemorySegment otherAcc, long otherAccOffset,
            int rows, int headSize) {
        long rowBytes = (long) headSize * FLOAT;
        long states = address(state, stateOffset, (long) rows * STATE);
        long sums = address(acc, accOffset, rows * rowBytes);
        long otherStates = address(otherState, otherStateOffset, (long) rows * STATE);
        long otherSums = address(otherAcc, otherAccOffset, rows * rowBytes);
        for (int r = 0; r < rows; r++) {
            long at = (long) r * STATE;
            OnlineSoftmax.merge(states + at, sums + r * rowBytes, otherStates + at, otherSums + r * rowBytes, headSize);
        }
    }

    @Override
    public void normalize(
            MemorySegment state, long stateOffset, MemorySegment acc, long accOffset, int rows, int headSize,
            MemorySegment out, long outOffset, long outStride) {
        long rowBytes = (long) headSize * FLOAT;
        long states = address(state, stateOffset, (long) rows * STATE);
        long sums = address(acc, accOffset, rows * rowBytes);
        long results = address(out, outOffset, outStride, rows, rowBytes);
        for (int r = 0; r < rows; r++) {
            OnlineSoftmax.normalize(states + (long) r * STATE, sums + r * rowBytes, headSize, results + r * outStride);
        }
    }

    @Override
    public void expect(MemorySegment memory, long offset, long bytes) {
        Ahead.OF_THREAD.get().expect(memory, offset, bytes);
    }

    @Override
    public void packedScores(
            MemorySegment block, long blockOffset, int bits, boolean refined, int headSize,
            int @Nullable [] channels, int channelCount,
            MemorySegment q, long qOffset, long qStride, int rows,
            MemorySegment s, long sOffset) {
        long codes = address(block, blockOffset, packedKeyBytes(bits, headSize));
        long queries = address(q, qOffset, qStride, rows, (long) headSize * FLOAT);
        long scores = address(s, sOffset, rows * TILE_ROW);
        clear(scores, rows * TILE_ROW);
        PackedProduct.multiply(queries, qStride, rows, channels == null ? headSize : channelCount, channels, codes,
                rowBytes(bits, BLOCK), bits, refined, codes + BlockLayout.keyScales(bits, headSize),
                codes + BlockLayout.keyZeros(bits, headSize), 1, BLOCK, scores, TILE_ROW);
    }

    @Override
    public void packedAccumulate(
            MemorySegment block, long blockOffset, int bits, boolean refined, int headSize,
            MemorySegment p, long pOffset, int rows, int tokens,
            MemorySegment acc, long accOffset) {
        long rowBytes = (long) headSize * FLOAT;
        long codes = address(block, blockOffset, packedValueBytes(bits, headSize));
        long weights = address(p, pOffset, rows * TILE_ROW);
        long sums = address(acc, accOffset, rows * rowBytes);
        PackedProduct.multiply(weights, TILE_ROW, rows, tokens, null, codes, rowBytes(bits, headSize), bits, refined,
                codes + BlockLayout.valueScales(bits, headSize), codes + BlockLayout.valueZeros(bits, headSize),
                groups(headSize), headSize, sums, rowBytes);
    }

    @Override
    public void indexScores(
            MemorySegment panel, long panelOffset, int from, int to, int bits, int headSize,
            int @Nullable [] channels, int channelCount,
            MemorySegment q, long qOffset, long qStride, int rows,
            MemorySegment s, long sOffset) {
        Objects.checkFromToIndex(from, to, PANEL);
        IndexProduct.scores(address(panel, panelOffset, panelBytes(bits, headSize)), from, to, bits, headSize,
                channels == null ? ALL_CHANNELS : channels, channels == null ? headSize : channelCount,
                address(q, qOffset, qStride, rows, (long) headSize * FLOAT), qStride, rows,
                address(s, sOffset, TILE_ROW * rows * (to - from)));
    }

    @Override
    public void indexRanks(
            MemorySegment panel, long panelOffset, int from, int to, int bits, int headSize,
            int @Nullable [] channels, int channelCount,
            MemorySegment q, long qOffset, long qStride, int rows, float[] logSums,
            MemorySegment rank, long rankOffset) {
        Objects.checkFromToIndex(from, to, PANEL);
        Objects.checkFromIndexSize(0, rows, logSums.length);
        IndexProduct.ranks(address(panel, panelOffset, panelBytes(bits, headSize)), from, to, bits, headSize,
                channels == null ? ALL_CHANNELS : channels, channels == null ? headSize : channelCount,
                address(q, qOffset, qStride, rows, (long) headSize * FLOAT), qStride, rows, logSums,
                address(rank, rankOffset, TILE_ROW * (to - from)));
    }

    @Override
    public void touchRecords(RecordList records) {
        TokenRecords.touch(records.addresses, records.count(), records.bytes());
    }

    @Override
    public void recordScores(
            RecordList records,
            MemorySegment q, long qOffset, long qStride, int rows,
            MemorySegment s, long sOffset) {
        int headSize = records.headSize();
        int count = records.count();
        long rowBytes = (long) headSize * FLOAT;
        long queries = address(q, qOffset, qStride, rows, rowBytes);
        long scores = address(s, sOffset, rows * TILE_ROW);
        if (records.bits() == 8) {
            RecordProduct.scores(records.addresses, count, headSize, queries, qStride, rows, scores, TILE_ROW);
        } else {
            long keys = TokenRecords.room(BLOCK * rowBytes);
            TokenRecords.readKeys(records.addresses, count, records.bits(), headSize, keys);
            RowProduct.multiply(queries, qStride, rows, headSize, keys, count, scores, TILE_ROW);
        }
    }

    @Override
    public void recordAccumulate(
            RecordList records,
            MemorySegment p, long pOffset, int rows,
            MemorySegment acc, long accOffset) {
        int headSize = records.headSize();
        int count = records.count();
        long rowBytes = (long) headSize * FLOAT;
        long weights = address(p, pOffset, rows * TILE_ROW);
        long sums = address(acc, accOffset, rows * rowBytes);
        if (records.bits() == 8) {
            RecordProduct.accumulate(records.addresses, count, headSize, weights, TILE_ROW, rows, sums, rowBytes);
        } else {
            long values = TokenRecords.room(BLOCK * rowBytes);
            TokenRecords.readValues(records.addresses, count, records.bits(), headSize, values);
            TileProduct.multiply(weights, TILE_ROW, rows, count, values, rowBytes, headSize, sums, rowBytes);
        }
    }

    private static void clear(long address, long bytes) {
        for (long i = 0; i < bytes; i += Lanes.V) {
            FloatVector.zero(Lanes.F).intoMemorySegment(ALL, address + i, Lanes.ORDER);
        }
    }

    @Override
    public void quantizeKeys(
            MemorySegment tile, long tileOffset, int headSize, int bits, MemorySegment block, long blockOffset) {
        BlockQuantizer.keys(address(tile, tileOffset, keyTileBytes(headSize)), headSize, bits,
                address(block, blockOffset, packedKeyBytes(bits, headSize)));
    }

    @Override
    public void quantizeIndex(
            MemorySegment tile, long tileOffset, int headSize, int @Nullable [] channels, int bits,
            MemorySegment panel, long panelOffset, int block) {
        int count = channels == null ? headSize : channels.length;
        if (channels != null) {
            for (int channel : channels) {
                Objects.checkIndex(channel, headSize);
            }
        }
        BlockQuantizer.index(address(tile, tileOffset, keyTileBytes(headSize)), channels, count, bits,
                address(panel, panelOffset, panelBytes(bits, count)), Objects.checkIndex(block, PANEL));
    }

    @Override
    public void quantizeValues(
            MemorySegment tile, long tileOffset, int headSize, int bits, MemorySegment block, long blockOffset) {
        BlockQuantizer.values(address(tile, tileOffset, valueTileBytes(headSize)), headSize, bits,
                address(block, blockOffset, packedValueBytes(bits, headSize)));
    }

    @Override
    public void unpackKeys(
            MemorySegment block, long blockOffset, int bits, boolean refined, int headSize,
            MemorySegment tile, long tileOffset) {
        BlockReader.unpackKeys(address(block, blockOffset, packedKeyBytes(bits, headSize)), bits, refined, headSize,
                address(tile, tileOffset, keyTileBytes(headSize)));
    }

    @Override
    public void unpackValues(
            MemorySegment block, long blockOffset, int bits, boolean refined, int headSize,
            MemorySegment tile, long tileOffset) {
        BlockReader.unpackValues(address(block, blockOffset, packedValueBytes(bits, headSize)), bits, refined, headSize,
                address(tile, tileOffset, valueTileBytes(headSize)));
    }

    @Override
    public void splitKeys(
            MemorySegment tile, long tileOffset, int headSize,
            MemorySegment hi, long hiOffset, MemorySegment lo, long loOffset, long loStride) {
        BlockQuantizer.splitKeys(address(tile, tileOffset, keyTileBytes(headSize)), headSize,
                address(hi, hiOffset, packedKeyBytes(4, headSize)),
                address(lo, loOffset, loStride, BLOCK, lowRecordValue(headSize)), loStride);
    }

    @Override
    public void splitValues(
            MemorySegment tile, long tileOffset, int headSize,
            MemorySegment hi, long hiOffset, MemorySegment lo, long loOffset, long loStride) {
        BlockQuantizer.splitValues(address(tile, tileOffset, valueTileBytes(headSize)), headSize,
                address(hi, hiOffset, packedValueBytes(4, headSize)),
                address(lo, loOffset, loStride, BLOCK, lowRecordValue(headSize)), loStride);
    }

    @Override
    public void joinKeys(
            MemorySegment hi, long hiOffset, MemorySegment lo, long loOffset, long loStride, int headSize,
            MemorySegment tile, long tileOffset) {
        BlockReader.joinKeys(address(hi, hiOffset, packedKeyBytes(4, headSize)),
                address(lo, loOffset, loStride, BLOCK, lowRecordValue(headSize)), loStride, headSize,
                address(tile, tileOffset, keyTileBytes(headSize)));
    }

    @Override
    public void joinValues(
            MemorySegment hi, long hiOffset, MemorySegment lo, long loOffset, long loStride, int headSize,
            MemorySegment tile, long tileOffset) {
        BlockReader.joinValues(address(hi, hiOffset, packedValueBytes(4, headSize)),
                address(lo, loOffset, loStride, BLOCK, lowRecordValue(headSize)), loStride, headSize,
                address(tile, tileOffset, valueTileBytes(headSize)));
    }

    @Override
    public void gatherKey(
            MemorySegment hi, long hiOffset, int token, MemorySegment lo, long loOffset, int headSize,
            MemorySegment tile, long tileOffset, int column) {
        BlockReader.key(address(hi, hiOffset, packedKeyBytes(4, headSize)), token,
                address(lo, loOffset, lowRecordValue(headSize)), headSize,
                address(tile, tileOffset, keyTileBytes(headSize)), column);
    }

    @Override
    public void gatherValue(
            MemorySegment hi, long hiOffset, int token, MemorySegment lo, long loOffset, int headSize,
            MemorySegment tile, long tileOffset, int row) {
        long rowBytes = (long) headSize * FLOAT;
        BlockReader.value(address(hi, hiOffset, packedValueBytes(4, headSize)), token,
                address(lo, loOffset, lowRecordValue(headSize)), headSize,
                address(tile, tileOffset + row * rowBytes, rowBytes));
    }

    @Override
    public void putKey(
            MemorySegment key, long keyOffset, int headSize, MemorySegment tile, long tileOffset, int column) {
        RowConversion.intoColumn(address(key, keyOffset, (long) headSize * FLOAT), headSize,
                address(tile, tileOffset, keyTileBytes(headSize)) + (long) column * FLOAT, (long) BLOCK * FLOAT);
    }

    @Override
    public void packRecords(
            MemorySegment keys, long keysOffset, MemorySegment values, long valuesOffset, int headSize, int bits,
            MemorySegment rows, long records) {
        TokenRecords.pack(address(keys, keysOffset, keyTileBytes(headSize)),
                address(values, valuesOffset, valueTileBytes(headSize)), headSize, bits,
                address(rows, records, (long) BLOCK * recordBytes(bits, headSize)));
    }

    @Override
    public void loadRecords(
            MemorySegment rows, long records, int bits, int headSize,
            MemorySegment keys, long keysOffset, MemorySegment values, long valuesOffset) {
        TokenRecords.load(address(rows, records, (long) BLOCK * recordBytes(bits, headSize)), bits, headSize,
                address(keys, keysOffset, keyTileBytes(headSize)),
                address(values, valuesOffset, valueTileBytes(headSize)));
    }

    @Override
    public void toBFloat16(MemorySegment source, long sourceOffset, MemorySegment target, long targetOffset,
            int count) {
        RowConversion.toBFloat16(address(source, sourceOffset, (long) count * FLOAT),
                address(target, targetOffset, (long) count * HALF), count);
    }

    @Override
    public void fromBFloat16(
            MemorySegment source, long sourceOffset, MemorySegment target, long targetOffset, int count) {
        RowConversion.fromBFloat16(address(source, sourceOffset, (long) count * HALF),
                address(target, targetOffset, (long) count * FLOAT), count);
    }

    @Override
    public void logSumExpStep(MemorySegment s, long sOffset, int count, MemorySegment state, long stateOffset) {
        OnlineSoftmax.add(address(s, sOffset, (long) count * FLOAT), count, address(state, stateOffset, STATE));
    }

    @Override
    public void scaleScores(MemorySegment s, long sOffset, int count, float scale, float softCap) {
        ScoreSelection.scale(address(s, sOffset, (long) count * FLOAT), count, scale, softCap);
    }

    @Override
    public void logSums(MemorySegment s, long sOffset, int blocks, int rows, float weight, float[] logSums) {
        ScoreSelection.logSums(address(s, sOffset, TILE_ROW * blocks * rows), blocks, rows, weight, logSums);
    }

    @Override
    public void rank(
            MemorySegment s, long sOffset, int blocks, int rows, float[] logSums, MemorySegment rank,
            long rankOffset) {
        ScoreSelection.rank(address(s, sOffset, TILE_ROW * blocks * rows), blocks, rows, logSums,
                address(rank, rankOffset, TILE_ROW * blocks));
    }

    @Override
    public void stretchMaxima(MemorySegment rank, long rankOffset, int blocks, int stretch, float[] maxima) {
        ScoreSelection.stretchMaxima(address(rank, rankOffset, TILE_ROW * blocks), blocks, stretch, maxima);
    }

    @Override
    public float max(MemorySegment s, long sOffset, int count) {
        return ScoreSelection.max(address(s, sOffset, (long) count * FLOAT), count);
    }

    @Override
    public int atLeast(
            MemorySegment s, long sOffset, int count, float threshold, int first, int[] positions, float[] values,
            int next) {
        return ScoreSelection.atLeast(
                address(s, sOffset, (long) count * FLOAT), count, threshold, first, positions, values, next);
    }

    @Override
    public float threshold(float[] values, int count, int k, int most) {
        return ScoreSelection.threshold(values, count, k, most);
    }

    @Override
    public int keepLargest(float[] values, int[] positions, int count, int k) {
        return ScoreSelection.keepLargest(values, positions, count, k);
    }

    @Override
    public void rotate(MemorySegment x, long xOffset, int heads, int headSize, MemorySegment table, long tableOffset) {
        RowConversion.rotate(address(x, xOffset, (long) heads * headSize * FLOAT), heads, headSize,
                address(table, tableOffset, (long) headSize * FLOAT));
    }
}
