"""Compares what one model answers on two backends: evaluate's results of policies that were named NAME.cuda and NAME.panama,
prompt by prompt. Exits with 1 if an answer differs, after a line for each that does. Argument: results.jsonl."""
import collections, json, sys

results = collections.defaultdict(dict)
with open(sys.argv[1]) as lines:
    for result in map(json.loads, lines):
        policy, _, backend = result['policy'].partition('.')
        prompt = result['seed'], result['tokens'], result['family'], result['index']
        # Plain exact is what the others are measured against; a GPU that is there runs it.
        results[policy, prompt][backend or 'cuda'] = result

pairs = collections.defaultdict(list)
for (policy, prompt), by_backend in sorted(results.items()):
    if len(by_backend) == 2:
        pairs[policy].append((prompt, by_backend['cuda'], by_backend['panama']))


def mean(numbers):
    return sum(numbers) / len(numbers)


def divergence(results):
    """Mean over all tokens, not over prompts."""
    return sum(r['kl'] * r['steps'] for r in results) / sum(r['steps'] for r in results)


print('| policy | prompts | same answer | same kinds of layers | accuracy cuda / panama | mean KL cuda / panama |')
print('|---|---|---|---|---|---|')
differing = []
for policy, compared in pairs.items():
    cuda, panama = [c for _, c, _ in compared], [p for _, _, p in compared]
    same = sum(c['answer'] == p['answer'] for c, p in zip(cuda, panama))
    kinds = sum(c['kinds'] == p['kinds'] for c, p in zip(cuda, panama))
    print(f"| {policy} | {len(compared)} | {same} | {kinds} "
          f"| {mean([r['accuracy'] for r in cuda]):.1%} / {mean([r['accuracy'] for r in panama]):.1%} "
          f"| {divergence(cuda):.5f} / {divergence(panama):.5f} |")
    differing += [(policy, prompt, c, p) for prompt, c, p in compared if c['answer'] != p['answer']]

for policy, prompt, c, p in differing:
    print(policy, *prompt, f"KL {c['kl']:.5f} / {p['kl']:.5f}", repr(c['answer']), 'against', repr(p['answer']))
sys.exit(1 if differing else 0)
