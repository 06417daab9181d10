"""Makes a model folder of more layers from one of fewer: the header names them all, their data repeats, so that the whole
shape is timed without its size on disk. Arguments: source folder, target folder, layers."""
import json, struct, sys, os, shutil
src, dst, layers = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.makedirs(dst, exist_ok=True)
for name in os.listdir(src):
    if not name.endswith('.safetensors') and os.path.isfile(os.path.join(src, name)):
        shutil.copy(os.path.join(src, name), dst)
c = json.load(open(os.path.join(src, 'config.json'))); have = c['num_hidden_layers']; c['num_hidden_layers'] = layers
json.dump(c, open(os.path.join(dst, 'config.json'), 'w'))
for name in os.listdir(src):
    if not name.endswith('.safetensors'): continue
    with open(os.path.join(src, name), 'rb') as f:
        n = struct.unpack('<Q', f.read(8))[0]; head = json.loads(f.read(n)); out = {}
        for k, v in head.items():
            if k.startswith('model.layers.'):
                p = k.split('.'); i = int(p[2])
                for j in range(i, layers, have):
                    out['.'.join(p[:2] + [str(j)] + p[3:])] = v
            else: out[k] = v
        raw = json.dumps(out).encode(); raw += b' ' * (-len(raw) % 64)
        with open(os.path.join(dst, name), 'wb') as g:
            g.write(struct.pack('<Q', len(raw))); g.write(raw); shutil.copyfileobj(f, g, 1 << 24)
print('repeated', have, 'to', layers)
